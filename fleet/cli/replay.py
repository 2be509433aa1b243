"""``fleet replay``: a ticket's log told again, each event with what it changed, each decision with its reason."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.app import FAULT, app, client, put_json
from fleet.cli.safe import safe
from fleet.cli.wording import sentence
from fleet.core.archive import FOLDER, Row, log_lines, position
from fleet.core.codec import CodecError, decode_event, encode
from fleet.core.errors import FleetError, InternalError, UsageError
from fleet.core.events import Envelope, StateChanged
from fleet.core.settings import Settings
from fleet.core.view import TicketView

if TYPE_CHECKING:
    from supervisor.decision import Decision, Order
    from supervisor.policy import Policy
    from supervisor.replay import Step

_LONGEST = 160
# The head of a step says these already.
_SAID = frozenset({"since", "seq"})


@app.command()
def replay(
    name: Annotated[str, typer.Argument(help="Ticket id, the beginning of one, or the issue's number.")] = "",
    file: Annotated[Path | None, typer.Option("--file", help="A log file instead, or a folder of segments.")] = None,
    at: Annotated[int, typer.Option("--at", help="Stop after this event, and print the whole view.")] = 0,
    until: Annotated[
        str, typer.Option("--until", help="Stop at the first event of this kind, or at the move into this state.")
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Compare the end with the stored view.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines for scripts.")] = False,
) -> None:
    """Tell a ticket's log again: what each event changed, and why each decision was made."""
    if bool(name) == (file is not None):
        raise UsageError("Name a ticket, or a log with --file.", "One of the two.")
    if check and (file is not None or at or until):
        raise UsageError("--check compares a whole log with the ledger's view.", "Leave --file, --at and --until out.")
    from supervisor.policy import Policy  # noqa: PLC0415 - the supervisor's code, which other commands do not need

    stored: TicketView | None = None
    if file is not None:
        events, policy = from_file(file), Policy()
    else:
        events, stored, settings = from_ledger(name)
        policy = Policy(**asdict(settings.supervision))
    if not events:
        raise UsageError("This log is empty.", "Its events were removed: `fleet clean` does that after a while.")
    if check and stored is None:
        raise UsageError("The ledger has forgotten this ticket.", "There is no view left to compare its log with.")
    if check:
        raise typer.Exit(_check(events, stored, policy, as_json))
    _tell(events, policy, Stop(at, until), as_json)


class Stop:
    """Where to stop: after event ``at`` (0: never), or at ``until``, an event's kind or a state."""

    def __init__(self, at: int, until: str) -> None:
        self._at = at
        self._until = until.lower()
        self.reached = False

    def here(self, step: Step) -> bool:
        names = {step.event.kind.lower()}
        if isinstance(step.event.data, StateChanged):
            names.add(step.event.data.state.value)
        self.reached = step.number == self._at or self._until in names
        return self.reached

    @property
    def wanted(self) -> str:
        return f"event {self._at}" if self._at else self._until


def from_file(path: Path) -> list[Envelope]:
    """A log file, or a folder of segments. Raises UsageError for what is no log."""
    try:
        if not path.is_dir():
            return [decode_event(raw) for _, raw in log_lines(path.read_bytes())]
        rows: list[Row] = []
        for part in sorted(path.glob("*.jsonl.gz")):
            # A segment may have been stored twice, with another end: what is there already is not told again.
            rows += [
                row for row in log_lines(part.read_bytes()) if not rows or position(row[0]) > position(rows[-1][0])
            ]
        return [decode_event(raw) for _, raw in rows]
    except (CodecError, OSError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise UsageError(f"{path} is not a log: {why}") from error


def from_ledger(name: str) -> tuple[list[Envelope], TicketView | None, Settings]:
    """(log, stored view, settings) of a ticket of this home, whether its fleet runs or not."""
    from fleet.cli.tickets import whole_log  # noqa: PLC0415 - its commands register themselves
    from fleet.local.reading import reading  # noqa: PLC0415

    with reading(client(quiet=True)) as fleet:
        try:
            view = fleet.find(name)
        except UsageError:
            folder = forgotten(fleet.home.layout.artifacts / FOLDER, name)
            if folder is None:
                raise
            return from_file(folder), None, fleet.settings
        ledger = fleet.ledger()
        # The log first: what is folded meanwhile is in the view, and in what is read again then.
        while True:
            events, view = whole_log(ledger, view.id), ledger.view(view.id) or view
            if view.version <= len(events):
                break
        return events[: view.version], view, fleet.settings


def forgotten(logs: Path, name: str) -> Path | None:
    """The folder with the sealed log of a ticket that the ledger no longer knows; the newest of several ledgers'."""
    found = [path for path in logs.glob("*/*") if path.name == name or path.name.startswith(name)]
    exact = [path for path in found if path.name == name]
    if len({path.name for path in found}) == 1 or exact:
        return max(exact or found, key=lambda path: path.stat().st_mtime)
    return None


def _tell(events: list[Envelope], policy: Policy, stop: Stop, as_json: bool) -> None:
    from supervisor.replay import Judged, pending  # noqa: PLC0415

    otherwise, step = 0, None
    first = events[0].at
    for step in _steps(events, policy):
        otherwise += step.judged is Judged.OTHERWISE
        if as_json:
            put_json(row(step))
        else:
            for line in lines(step, first):
                print(safe(line))
        if stop.here(step):
            break
    assert step is not None
    if stop.wanted and not stop.reached:
        raise UsageError(f"The log has {len(events)} events, and {stop.wanted} is not among them.")
    view = step.view
    decided = None if stop.reached else pending(view, events[-1].at, policy)
    if as_json:
        if stop.reached:
            put_json({"type": "view", "number": step.number, "view": _plain(view)})
        end = {"ticket": view.id, "events": step.number, "state": view.state.value, "reason": view.reason.value}
        put_json({"type": "replay", **end, "otherwise": otherwise, "pending": _decision(decided)})
        return
    if stop.reached:
        print(f"\nthe view after event {step.number}:")
        print(safe(json.dumps(_plain(view), indent=2, ensure_ascii=False)))
    print(f"\n{view.id}: {step.number} events; {view.state.value} ({view.reason.value})")
    if otherwise:
        print(f"{otherwise} decisions would be made otherwise by this version (marked with !)")
    if decided is not None:
        print(f"this version would now go on: {safe(_words(decided))}")


def _steps(events: list[Envelope], policy: Policy) -> Any:
    """Raises FleetError that names the event at which the log breaks a law."""
    from supervisor.replay import replay as steps  # noqa: PLC0415

    number = 0
    try:
        for step in steps(events, policy):
            number = step.number
            yield step
    except InternalError as error:
        raise FleetError(f"Event {number + 1} cannot be folded: {error}") from error


def _check(events: list[Envelope], stored: TicketView | None, policy: Policy, as_json: bool) -> int:
    """0 when the log adds up to the stored view, else 1 and the first difference."""
    from supervisor.replay import changes  # noqa: PLC0415

    *_, last = _steps(events, policy)
    found = changes(stored, last.view) if stored is not None else ()
    ticket = last.view.id
    if as_json:
        first = {"field": found[0].field, "stored": found[0].before, "log": found[0].after} if found else None
        put_json({"type": "check", "ticket": ticket, "events": len(events), "same": not found, "difference": first})
    elif found:
        print(f"{ticket}: {len(found)} fields differ; the first is {found[0].field}")
        print(safe(f"  stored   {_short(found[0].before)}"))
        print(safe(f"  the log  {_short(found[0].after)}"))
    else:
        print(f"{ticket}: {len(events)} events add up to the stored view")
    return FAULT if found else 0


# --- one step ------------------------------------------------------------------------------------------------------
def lines(step: Step, first: float) -> list[str]:
    """For people; what came from outside is made safe by the caller."""
    from supervisor.replay import Judged  # noqa: PLC0415

    event = step.event
    about = f" of attempt {event.attempt}" if event.attempt else ""
    told = [f"{step.number:5} {event.at - first:9.1f}s  {event.kind} by {event.source.value}{about}"]
    words = sentence(event)
    if words:
        told.append(words.splitlines()[0])
    changed = [one for one in step.changes if one.field not in _SAID]
    told += [f"{one.field}: {_short(one.before)} → {_short(one.after)}" for one in changed]
    told += [f"orders {_order(one)}" for one in step.orders]
    if step.judged is Judged.BY_CLOCK:
        told.append("decided because a clock ran out, which the log does not hold")
    if step.judged is Judged.OTHERWISE:
        instead = _words(step.instead) if step.instead is not None else "nothing"
        told.append(f"! this version would decide otherwise: {instead}")
    head, *rest = told
    return [head, *(f"{'':18}{line if len(line) <= _LONGEST else line[: _LONGEST - 1] + '…'}" for line in rest)]


def row(step: Step) -> dict[str, Any]:
    """One object of ``--json``."""
    from supervisor.replay import Judged  # noqa: PLC0415

    event = step.event
    told: dict[str, Any] = {
        "type": "step",
        "number": step.number,
        "at": event.at,
        "kind": event.kind,
        "source": event.source.value,
        "attempt": event.attempt,
        "seq": event.seq,
        "data": _plain(event.data),
        "changes": [asdict(change) for change in step.changes],
        "decision": None,
    }
    if step.judged is not Judged.NONE:
        told["decision"] = {
            "judged": step.judged.value,
            "orders": [_plain(order.effect) | {"delay": order.delay} for order in step.orders],
            "instead": _decision(step.instead),
        }
    return told


def _decision(decided: Decision | None) -> dict[str, Any] | None:
    if decided is None:
        return None
    return {"kind": type(decided.event).__name__, "data": _plain(decided.event)}


def _words(decided: Decision) -> str:
    if isinstance(decided.event, StateChanged):
        reason = decided.event.reason.value.replace("_", " ")
        return f"{decided.event.state.value} ({reason}) {decided.event.detail}".rstrip()
    return f"{type(decided.event).__name__} {_short(_plain(decided.event))}"


def _order(order: Order) -> str:
    effect = order.effect
    numbers = f"attempt {effect.attempt}" + (f", round {effect.round}" if effect.round else "")
    return f"{effect.kind.value} ({numbers})" + (f" in {order.delay:.0f} s" if order.delay else "")


def _short(value: object) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 70 else f"{text[:69]}…"


def _plain(value: object) -> Any:
    return json.loads(encode(value))
