"""``fleet show -f``: a ticket's log as it grows, one line per event, until the fleet rests; then its result."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from fleet.cli.app import INTERRUPTED, put_json, say
from fleet.cli.live import Printer, left_behind
from fleet.cli.safe import safe
from fleet.cli.wording import at_rest, exit_code, result, sentence, why
from fleet.core.budget import Cost
from fleet.core.errors import StoppedError, TemporaryError
from fleet.core.events import (
    AttemptFailed,
    Envelope,
    GateFinished,
    GatesFailed,
    Nudged,
    PublishFailed,
    Source,
    StateChanged,
    SteersTold,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from fleet.core.gates import PASSING
from fleet.core.states import State
from fleet.core.view import TicketView
from fleet.local.client import Client, follow

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "1;33", "36"
_PASSING = frozenset(one.value for one in PASSING)
_GOOD = frozenset({State.IN_REVIEW, State.MERGED})
_BAD = frozenset({State.REJECTED, State.ESCALATED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Line:
    """``label`` stands in a column of its own; ``style`` is an SGR code, empty for none."""

    label: str
    text: str
    style: str = ""


class Story:
    """Turns events into lines. Keeps what one line needs to know of those before it: the money spent so far."""

    def __init__(self) -> None:
        self._spent = Cost()

    def line(self, event: Envelope) -> Line | None:
        """None for events that only machines need."""
        match event.data:
            case StateChanged(state=state):
                style = GREEN if state in _GOOD else RED if state in _BAD else YELLOW if state is State.PARKED else BOLD
                return Line("●", sentence(event), style)
            case Nudged(rung=rung, cause=cause, text=text, seconds=seconds):
                return Line(rung.value, f"{cause} for {seconds:.0f} s{': ' if text else ''}{text}", YELLOW)
            case SteersTold():
                return Line("steer", sentence(event), YELLOW)
            case TurnFinished(turn=turn, cost=cost, model=model):
                return self._turn(turn, cost, model)
            case ToolStarted(tool=tool, summary=summary):
                return Line(tool, summary.removeprefix(f"{tool} "), CYAN)
            case ToolFinished(exit=code, ms=ms):
                return Line("", f"→ exit {code}, {ms} ms", DIM if code == 0 else RED)
            case GateFinished(outcome=outcome):
                passed = outcome in _PASSING
                return Line("gate", sentence(event).removeprefix("gate "), GREEN if passed else RED)
            case AttemptFailed() | GatesFailed() | PublishFailed():
                return Line("failed", sentence(event), RED)
        words = sentence(event)
        return Line(_LABELS.get(event.source, ""), words) if words else None

    def _turn(self, turn: int, cost: Cost, model: str) -> Line:
        self._spent += cost
        if not cost.input_tokens + cost.output_tokens:
            return Line(f"turn {turn}", f"no answer from {model}; ${self._spent.usd:.4f} so far", BOLD)
        price = "price unknown" if cost.unknown else f"${cost.usd:.4f}"
        tokens = f"{cost.input_tokens} in, {cost.output_tokens} out"
        return Line(f"turn {turn}", f"{price} ({tokens}) by {model}; ${self._spent.usd:.4f} so far", BOLD)


_LABELS = {
    Source.ATTEMPTS: "attempt",
    Source.GATES: "gates",
    Source.PUBLISHER: "publish",
    Source.INTAKE: "intake",
    Source.SUPERVISOR: "fleet",
}


class Pen:
    """Writes lines: with colour and cut to the width in a terminal, whole and plain elsewhere."""

    def __init__(self, write: Callable[[str], object], width: int = 0, colour: bool = False) -> None:
        self._write = write
        self._width = width
        self._colour = colour
        self._first: float | None = None
        self._attempt = 0
        self._story = Story()

    def event(self, event: Envelope) -> None:
        line = self._story.line(event)
        if line is None:
            return
        self._first = event.at if self._first is None else self._first
        if event.source is Source.ATTEMPTS and event.attempt != self._attempt:
            self._attempt = event.attempt
            self._put(f"── attempt {event.attempt}", BOLD, fill=True)
        words = safe(line.text).splitlines() or [""]
        more = f" (+{len(words) - 1} lines in `fleet show`)" if len(words) > 1 else ""
        self._put(f"{event.at - self._first:8.1f}s  {safe(line.label)[:9]:<9} {words[0]}{more}", line.style)

    def _put(self, text: str, style: str, fill: bool = False) -> None:
        if self._width:
            text = f"{text} ".ljust(self._width, "─") if fill else text
            text = text if len(text) <= self._width else f"{text[: self._width - 1]}…"
        self._write(f"\x1b[{style}m{text}\x1b[0m\n" if self._colour and style else f"{text}\n")


def follow_ticket(fleet: Client, ticket: str, as_json: bool) -> int:
    """Prints until the fleet does nothing more about the ticket by itself; answers the exit code of that end."""
    terminal = sys.stdout.isatty() and not as_json
    width = shutil.get_terminal_size().columns if terminal else 0
    pen = Printer(True) if as_json else Pen(_write, width, terminal and not fleet.home.env.get("NO_COLOR"))
    try:
        view = _until_rest(fleet, ticket, pen)
    except KeyboardInterrupt:
        say(f"left; {ticket} goes on. Follow it again with `fleet show -f {ticket}`.")
        return INTERRUPTED
    except StoppedError as stopped:
        return left_behind(stopped, ticket, as_json)
    if as_json:
        put_json(result(view))
    else:
        _end(fleet, view)
    return exit_code(view.state)


def _until_rest(fleet: Client, ticket: str, pen: Pen | Printer) -> TicketView:
    """The whole log first, then what comes. The log is whole when it has as many events as the view has folded."""
    ledger, seen = fleet.ledger(), 0
    for _, event in follow(fleet, ticket):
        if event is not None:
            seen += 1
            pen.event(event)
            if not isinstance(event.data, StateChanged):
                continue
        with suppress(TemporaryError):  # the store is away: `follow` waits for it
            view = ledger.view(ticket)
            if view is not None and at_rest(view.state) and seen >= view.version:
                return view
    raise AssertionError("a log has no end")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _end(fleet: Client, view: TicketView) -> None:
    print()
    print(f"{view.id} is {view.state.value.replace('_', ' ')}: {safe(why(view, ''))}")
    spent = f", ${view.cost.usd:.4f} in {view.cost.model_calls} model calls" if view.cost.model_calls else ""
    print(f"  {view.attempt} attempt{'s' if view.attempt != 1 else ''}{spent}")
    if view.pull_request is not None:
        print(f"  pull request  {fleet.page(view.pull_request.url)}")
    print(f"  details       fleet show {view.id}")
