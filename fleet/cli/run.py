"""``fleet run``: one ticket from the command line, followed until a person has something to look at."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.app import INTERRUPTED, app, client, put_json, say
from fleet.cli.live import Printer, keep_serving, left_behind
from fleet.cli.target import agent_of, at_github, issue_text, one_of, source, submit, submit_issue
from fleet.cli.wording import at_rest, exit_code, limits_words, result
from fleet.core.errors import StoppedError, TemporaryError, UsageError
from fleet.core.view import TicketView
from fleet.intake.service import Accepted
from fleet.local.client import Client, follow
from workers.agents import backend_for

if TYPE_CHECKING:
    from fleet.cli.table import Table


@app.command()
def run(
    target: Annotated[
        str | None, typer.Argument(help="Path of a git repository, or the URL of one or of an issue at GitHub.")
    ] = None,
    repo: Annotated[str | None, typer.Option(help="The same, or OWNER/NAME at GitHub.")] = None,
    issue: Annotated[
        str | None,
        typer.Option(help="The issue: its number at GitHub, or a file (title in the first line; - is stdin)."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="The issue in one line, instead of --issue.")] = None,
    agent: Annotated[
        str | None, typer.Option(help='Who does the work: anthropic, openai, or "command:ruff check --fix ."')
    ] = None,
    base: Annotated[str | None, typer.Option(help="Branch to work on. Default: checked out, or GitHub's own.")] = None,
    reset_base: Annotated[
        bool, typer.Option("--reset-base", help="Let your branch replace the local forge's when the two went apart.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return as soon as the ticket is accepted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line; the last is the result.")] = False,
) -> None:
    """Work on one issue and end with a gated draft pull request.

    An issue of GitHub gets its pull request there when GITHUB_TOKEN is set, else on the local forge, with the
    `git push` that would bring it there.

    Exit code: 0 pull request open, 2 usage, 3 not passed or escalated, 4 parked for a person, 130 interrupted.
    """
    fleet = client(quiet=as_json)
    where = one_of(target, repo)
    named = at_github(fleet, where, issue)
    text = None if named is not None and named[1] else issue_text(issue, title)
    agent = _agent(fleet, agent, as_json)
    ours = not fleet.home.host_runs()
    if named is not None and named[1]:
        if title is not None:
            raise UsageError("An issue at GitHub has its own title.", "Leave --title away.")
        accepted = submit_issue(fleet, *named, base or "", agent)
    else:
        assert text is not None
        path, branch, note = source(fleet, where if named is None else named[0], named is not None, base)
        if note and not as_json:
            say(note)
        fleet.attach()
        accepted = submit(fleet, path, branch, text, agent, reset_base)
    if detach:
        _say_detached(accepted, as_json)
        return
    raise typer.Exit(watch(fleet, accepted.ticket.id, as_json, ours))


def _agent(fleet: Client, asked: str | None, as_json: bool) -> str:
    """Who does the work. What a model may cost is said before one is asked. Raises UsageError for an unknown one."""
    agent = agent_of(fleet, asked)
    backend_for(agent)
    if not agent.startswith("command:") and not as_json:
        say(f"limits: {limits_words(fleet.settings)}")
    return agent


def watch(fleet: Client, ticket: str, as_json: bool, ours: bool) -> int:
    """Follows the ticket's log until the fleet rests; the exit code says how it ended."""
    drawn = sys.stdout.isatty() and not as_json
    printer = _table() if drawn else Printer(as_json)
    try:
        with printer:
            view = _follow(fleet, ticket, printer)
        _report(fleet, view, as_json)
        if drawn and sys.stdin.isatty():
            keep_serving()
    except KeyboardInterrupt:
        return _interrupted(fleet, ticket, as_json, ours)
    except StoppedError as stopped:
        return left_behind(stopped, ticket, as_json)
    return exit_code(view.state)


def _table() -> Table:
    from fleet.cli.table import Table  # noqa: PLC0415 - its library takes a tenth of a second

    return Table()


def _follow(fleet: Client, ticket: str, printer: Printer | Table) -> TicketView:
    ledger = fleet.ledger()
    for _, event in follow(fleet, ticket):
        if event is not None:
            printer.event(event)
        view, admission = None, ""
        with suppress(TemporaryError):  # the store is away: `follow` brings it back
            view = ledger.view(ticket) if event is None or event.kind == "StateChanged" else None
            admission = ledger.why(ticket) if view is not None and view.state.value == "queued" else ""
        if view is not None:
            printer.view(view, admission)
        if view is not None and at_rest(view.state):
            return view
    raise AssertionError("a log has no end")


def _report(fleet: Client, view: TicketView, as_json: bool) -> None:
    if as_json:
        put_json(result(view))
        return
    pull = view.pull_request
    if pull is not None:
        print(f"\npull request  {fleet.page(pull.url)}")
        if pull.local_ref:
            print(f"in your repo  git show {pull.local_ref.removeprefix('refs/heads/')}")
        for line in fleet.bring_home(view):
            print(line)
    print(f"details       fleet show {view.id}")


def _say_detached(accepted: Accepted, as_json: bool) -> None:
    ticket = accepted.ticket
    if as_json:
        put_json({"type": "accepted", "ticket": ticket.id, "issue": ticket.issue, "new": accepted.new})
    else:
        print(f"{ticket.id} accepted; follow it with: fleet show -f {ticket.id}")


def _interrupted(fleet: Client, ticket: str, as_json: bool, ours: bool) -> int:
    """The first Ctrl-C drains what this command started, the second kills it; either way the ticket resumes."""
    if not ours:
        say(f"left; {ticket} goes on. Stop it with `fleet cancel {ticket}`, or everything with `fleet down`.")
    else:
        say("draining; press Ctrl-C again to kill. The ticket resumes with the next fleet command.")
        try:
            fleet.down()
        except KeyboardInterrupt:
            fleet.kill()
    if as_json:
        view = None if ours else fleet.ledger().view(ticket)
        put_json(result(view) if view is not None else {"type": "interrupted", "ticket": ticket})
    return INTERRUPTED
