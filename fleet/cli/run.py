"""``fleet run``: one ticket from the command line, followed until a person has something to look at."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.adapters.acl import Role
from fleet.cli.app import INTERRUPTED, app, client, put_json, say
from fleet.cli.live import Printer, keep_serving
from fleet.cli.wording import at_rest, exit_code, result
from fleet.core.errors import TemporaryError, UsageError
from fleet.core.view import TicketView
from fleet.intake.decide import Request
from fleet.intake.service import Accepted, IntakeService
from fleet.intake.text import IssueText, clean, decode, parse
from fleet.local.checkout import look
from fleet.local.client import Client, follow
from workers.agents import backend_for

if TYPE_CHECKING:
    from fleet.cli.table import Table

LABEL = "fleet"
MOST_ISSUE_BYTES = 1_000_000


@app.command()
def run(
    repo: Annotated[str, typer.Option(help="Path of a git repository, or the URL of one.")],
    issue: Annotated[
        str | None, typer.Option(help="File with the issue (title in the first line), - for stdin.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The issue in one line, instead of --issue.")] = None,
    agent: Annotated[
        str | None, typer.Option(help='Who does the work, for example "command:ruff check --fix ."')
    ] = None,
    base: Annotated[str | None, typer.Option(help="Branch to work on. Default: what is checked out.")] = None,
    reset_base: Annotated[
        bool, typer.Option("--reset-base", help="Let your branch replace the local forge's when the two went apart.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return as soon as the ticket is accepted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line; the last is the result.")] = False,
) -> None:
    """Work on one issue and end with a gated draft pull request.

    Exit code: 0 pull request open, 2 usage, 3 not passed or escalated, 4 parked for a person, 130 interrupted.
    """
    text = issue_text(issue, title)
    if agent is None:
        raise UsageError("No agent is named.", 'Give one, for example --agent "command:ruff check --fix .".')
    backend_for(agent)
    fleet = client(quiet=as_json)
    path, branch, note = source(fleet, repo, base)
    if note and not as_json:
        say(note)
    ours = not fleet.home.host_runs()
    fleet.attach()
    accepted = submit(fleet, path, branch, text, agent, reset_base)
    if detach:
        _say_detached(accepted, as_json)
        return
    raise typer.Exit(watch(fleet, accepted.ticket.id, as_json, ours))


def issue_text(issue: str | None, title: str | None) -> IssueText:
    """The issue from a file, standard input or one line. Raises UsageError when it is empty, binary or doubled."""
    if (issue is None) == (title is None):
        raise UsageError("Say what to do with either --title or --issue.", "Give exactly one of them.")
    if title is not None:
        return clean(title, "")
    assert issue is not None
    if issue == "-":
        raw = sys.stdin.buffer.read(MOST_ISSUE_BYTES)
    else:
        file = Path(issue)
        if not file.is_file():
            raise UsageError(f"{issue} is not a file.", "Give the path of a text file, or - for standard input.")
        with file.open("rb") as opened:
            raw = opened.read(MOST_ISSUE_BYTES)
    return clean(*parse(decode(raw, issue)))


def source(fleet: Client, repo: str, base: str | None) -> tuple[Path, str, str]:
    """(folder to take the branch from, branch, a note about what is not part of the work)."""
    if "://" in repo or repo.startswith("git@"):
        fleet.home.make()
        path = fleet.import_url(repo, base or "")
        return path, base or "", ""
    checkout = look(Path(repo).expanduser().resolve(), fleet.home.env)
    branch = base or checkout.branch
    if not branch:
        raise UsageError(f"{checkout.top} has no branch checked out.", "Name the one to work on with --base.")
    return checkout.top, branch, checkout.note()


def submit(fleet: Client, path: Path, branch: str, text: IssueText, agent: str, reset_base: bool) -> Accepted:
    """Opens the issue at the local forge and has it accepted; on disk when this returns (I1)."""
    fleet.home.check_space()
    repo, branch = fleet.import_repository(path, branch, reset_base)
    limits = fleet.limits_of(repo, branch)
    opened = fleet.open_issue(repo, text.title, text.body, (LABEL,))
    request = Request(
        repo=repo,
        number=opened.number,
        text=text,
        base=branch,
        agent=agent,
        requested_by="local",
        limits=limits,
        local_path="" if path.is_relative_to(fleet.home.layout.home) else str(path),
        allow_no_tests=True,
    )
    return IntakeService(fleet.wiring.ledger(Role.INTAKE), fleet.wiring.clock).accept(request)


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
