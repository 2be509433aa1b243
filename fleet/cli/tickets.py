"""Commands about tickets: ls, show, cancel, retry, open."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.adapters.git import store_name
from fleet.adapters.history import commit
from fleet.adapters.ledger import RedisLedger
from fleet.cli import money
from fleet.cli import story as attempts
from fleet.cli.app import app, put_json, running, say
from fleet.cli.follow import follow_ticket
from fleet.cli.live import Printer
from fleet.cli.safe import safe
from fleet.cli.wording import agent_words, at_rest, became, hidden_words, result, why
from fleet.core.archive import DamagedSegment, sealed_upto
from fleet.core.errors import UsageError
from fleet.core.events import CancelRequested, Envelope, RetryRequested, SteerRequested
from fleet.core.states import Reason, State
from fleet.core.story import story
from fleet.core.view import TicketView
from fleet.local.client import Client
from fleet.local.word import promise

if TYPE_CHECKING:
    from rich.table import Table

Name = Annotated[str, typer.Argument(help="Ticket id, the beginning of one, or the issue's number.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines for scripts.")]


@app.command("ls")
def list_tickets(
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that ended.")] = False,
    as_json: Json = False,
) -> None:
    """List tickets, newest first."""
    fleet = running()
    views = sorted(fleet.ledger().views(), key=lambda view: -view.ticket.accepted_at)
    shown = [view for view in views if every or not view.state.terminal]
    if as_json:
        for view in shown:
            more = {"type": "ticket", "title": view.ticket.title, "issue": view.ticket.issue}
            put_json(result(view) | more | {"money": money.row(money.of_ticket(fleet, view))})
        return
    _print_table(fleet, shown, every)


# Columns with their least width, in the order in which they stand.
_COLUMNS = {"ticket": 30, "state": 11, "spent": 7, "issue": 20, "title": 20, "why": 20}
# What a narrow terminal goes without, in this order: shrunk evenly, neither state nor reason could be read.
_SPARED = ("issue", "title", "spent")


def columns(width: int) -> tuple[str, ...]:
    """What of ``_COLUMNS`` has room in ``width`` letters; ticket, state and why always stand."""
    shown = dict(_COLUMNS)
    for name in _SPARED:
        if sum(shown.values()) + len(shown) > width:
            del shown[name]
    return tuple(shown)


def drawn(rows: Sequence[Mapping[str, str]], width: int) -> Table:
    """``rows`` hold a text for each of ``_COLUMNS``; it stands as it is, whatever it means to the library."""
    from rich.table import Table  # noqa: PLC0415 - no other command of these draws
    from rich.text import Text  # noqa: PLC0415

    table, names = Table(box=None, pad_edge=False), columns(width)
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=_COLUMNS[name])
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    return table


def _print_table(fleet: Client, shown: list[TicketView], every: bool) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    ledger, sums = fleet.ledger(), money.book(fleet)
    rows = [
        {
            "ticket": view.id,
            "state": view.state.value.replace("_", " "),
            "spent": money.short(sums.ticket(view.id)),
            "issue": safe(view.ticket.issue),
            "title": safe(_short(view.ticket.title, 40)),
            "why": safe(_short(why(view, ledger.why(view.id)))),
        }
        for view in shown
    ]
    empty = "no tickets" if every else "no open tickets (see ended ones with --all)"
    console.print(drawn(rows, console.width) if rows else empty)


@app.command()
def show(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    as_json: Json = False,
) -> None:
    """Say why a ticket is where it is, then its evidence and its log."""
    fleet = running()
    view = fleet.find(name)
    if follow:
        raise typer.Exit(follow_ticket(fleet, view.id, as_json))
    ledger = fleet.ledger()
    printer = Printer(as_json)
    if not as_json:
        page = fleet.page(view.pull_request.url) if view.pull_request else ""
        _head(view, ledger.why(view.id), page, money.ticket_words(fleet, view))
        change_of(fleet, view)
    log, gap = readable_log(ledger, view.id)
    if gap:
        say(f"a part of the log cannot be read: {gap}")
    told, artifacts = story(log), fleet.wiring.artifacts
    if not as_json:
        for line in attempts.lines(view, told, artifacts):
            print(f"  {safe(line)}")
        print()
    for event in log:
        printer.event(event)
    if as_json:
        history = attempts.rows(view, told, artifacts)
        put_json(result(view) | {"history": history, "money": money.row(money.of_ticket(fleet, view))})


@app.command()
def cancel(
    name: Name,
    why: Annotated[str, typer.Option("--why", help="Shown to people on the issue and the pull request.")] = "",
    as_json: Json = False,
) -> None:
    """Stop a ticket: nothing of it begins any more, and the fleet's own pull request is closed."""
    fleet = running()
    view = fleet.find(name)
    if view.state.terminal:
        raise UsageError(f"{view.id} has already ended ({view.state.value}).", "There is nothing to cancel.")
    at_forge = promise(fleet, view, CancelRequested("cli", why))
    now = await_rest(fleet, view)
    said(as_json, view, became(now, State.CANCELLED, Reason.CANCELLED_BY_PERSON, "cancelled"), at_forge)


@app.command()
def retry(name: Name, as_json: Json = False) -> None:
    """Try a parked, rejected or escalated ticket once more; its counters go on."""
    fleet = running()
    view = fleet.find(name)
    if view.state not in (State.PARKED, State.REJECTED, State.ESCALATED, State.BACKING_OFF):
        raise UsageError(
            f"{view.id} is {view.state.value.replace('_', ' ')}.",
            "Only parked, rejected, escalated and waiting tickets are tried again.",
        )
    at_forge = promise(fleet, view, RetryRequested("cli"))
    said(as_json, view, "queued again", at_forge)


@app.command()
def steer(
    name: Name, text: Annotated[str, typer.Argument(help="What the agent should know.")], as_json: Json = False
) -> None:
    """Say something to the agent that works on a ticket; the next attempt is told when none is live."""
    fleet = running()
    view = fleet.find(name)
    words = " ".join(text.split())[:2000]
    if not words:
        raise UsageError("There is nothing to say.", 'Write it as the last word: fleet steer TICKET "…".')
    if not view.listens:
        command = view.agent.startswith("command:")
        what = "runs a command, which cannot listen" if command else f"is {view.state.value.replace('_', ' ')}"
        raise UsageError(f"{view.id} {what}.", "Only a ticket whose model goes on or may be retried can be steered.")
    fleet.tell(view, SteerRequested("cli", words))
    if view.state.terminal:
        said(as_json, view, f"told; its next attempt reads it: fleet retry {view.id}")
        return
    answered = view.state is State.PARKED and view.reason is Reason.NEEDS_INPUT
    said(as_json, view, "answered; queued again" if answered else "told")


@app.command("open")
def open_page(
    name: Annotated[str | None, typer.Argument(help="Ticket; without one the forge's first page.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser; --no-browser only prints the link.")] = True,
) -> None:
    """Open the pull request or issue of a ticket in the browser, and print its link."""
    fleet = running()
    path = ""
    if name is not None:
        view = fleet.find(name)
        pull = view.pull_request
        kind, number = ("pull", pull.number) if pull else ("issues", view.ticket.number)
        path = f"/{view.ticket.repo}/{kind}/{number}"
    link = fleet.page(fleet.wiring.forge_url + path)
    print(link)
    if browser and (fleet.home.env.get("DISPLAY") or fleet.home.env.get("WAYLAND_DISPLAY")):
        webbrowser.open(link)


def readable_log(ledger: RedisLedger, ticket: str) -> tuple[list[Envelope], str]:
    """(events, what is wrong with those that are missing): a damaged part must not hide the rest."""
    try:
        return whole_log(ledger, ticket), ""
    except DamagedSegment as error:
        _, cursor = sealed_upto(ledger.sealed(ticket))
        return whole_log(ledger, ticket, cursor), str(error)


def whole_log(ledger: RedisLedger, ticket: str, cursor: str = "0") -> list[Envelope]:
    """Every event of the ticket after the cursor; the ledger answers a thousand at a time. Raises DamagedSegment."""
    events: list[Envelope] = []
    while entries := ledger.log(ticket, cursor):
        cursor = entries[-1][0]
        events += (event for _, event in entries)
    return events


def _short(text: str, most: int = 90) -> str:
    line = (text.splitlines() or [""])[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _head(view: TicketView, admission: str, link: str, cost: str) -> None:
    print(f"{view.id} is {view.state.value.replace('_', ' ')}: {safe(why(view, admission))}")
    rows: list[tuple[str, Any]] = [
        ("issue", f"{view.ticket.issue} “{view.ticket.title}” by {view.ticket.requested_by}"),
        ("left out", hidden_words(view.ticket)),
        ("agent", agent_words(view)),
        ("base", f"{view.ticket.base} {view.base_sha[:12]}"),
        ("attempts", f"{view.attempt - view.hand_backs} of {view.ticket.limits.attempts}"),
        ("cost", cost),
        ("failures", ", ".join(f"{cause} {count}×" for cause, count in view.failures if ":" not in cause)),
        ("sandbox", view.tier),
        ("gated", view.head[:12]),
        ("pull request", link),
    ]
    for label, value in rows:
        if value:
            print(f"  {label:<13} {safe(str(value))}")
    for gate in view.gates:
        print(f"  gate {gate.name:<8} {gate.outcome.replace('_', ' '):<12} {gate.seconds:6.1f} s  {safe(gate.summary)}")
    print()


def change_of(fleet: Client, view: TicketView) -> None:
    """The gated commit, file by file."""
    if not view.head:
        return
    found = commit(fleet.wiring.layout.stores / store_name(view.ticket.repo), view.head)
    if found is None:
        return
    print(f"commit {found.sha[:12]} by {safe(found.author)}: {safe(found.message.splitlines()[0])}")
    for file in found.files:
        print(f"  +{file.insertions:<5} −{file.deletions:<5} {safe(file.path)}")
    print()


def await_rest(fleet: Client, view: TicketView) -> TicketView:
    """The ticket once it moved from where ``view`` has it and rests; after 10 s as it is then."""
    ledger, clock = fleet.ledger(), fleet.wiring.clock
    until = clock.monotonic() + 10.0
    now = view
    while clock.monotonic() < until:
        now = ledger.view(view.id) or now
        if at_rest(now.state) and (now.state, now.reason) != (view.state, view.reason):
            break
        clock.sleep(0.05)
    return now


def said(as_json: bool, view: TicketView, what: str, at_forge: bool | None = None) -> None:
    """``at_forge``: whether the issue shows it, so that a lost store gives it back; None where that is not asked."""
    if as_json:
        shown = {} if at_forge is None else {"at_forge": at_forge}
        put_json({"type": "told", "ticket": view.id, "what": what} | shown)
    else:
        print(f"{view.id} {what}")
    unless_at_forge(at_forge)


def unless_at_forge(at_forge: bool | None) -> None:
    if at_forge is False:
        say("the issue does not show it yet: should the store be lost before it does, say it again")
