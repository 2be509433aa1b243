"""What ``fleet run`` shows while it waits: a table that redraws itself in a terminal, plain or JSON lines elsewhere."""

from __future__ import annotations

import sys
import termios
import tty
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fleet.cli.app import put_json, safe
from fleet.cli.wording import sentence, why
from fleet.core.codec import encode
from fleet.core.events import Envelope, GateFinished, StateChanged
from fleet.core.gates import PASSING, Outcome
from fleet.core.view import TicketView
from fleet.local.client import Client

_STEPS = ("queued", "starting", "running", "gating", "publishing", "in_review")
_LINES = 8


class Printer:
    """One line per event, on standard output; with ``as_json`` one object per line."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._first: float | None = None
        self._why = ""

    def __enter__(self) -> Printer:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def event(self, event: Envelope) -> None:
        if self._json:
            data = _plain(event.data)
            put_json(
                {
                    "type": "event",
                    "at": event.at,
                    "kind": event.kind,
                    "ticket": event.ticket,
                    "attempt": event.attempt,
                    "data": data,
                }
            )
            return
        line = sentence(event)
        if line:
            self._first = self._first if self._first is not None else event.at
            print(f"{event.at - self._first:7.1f}s  {safe(line)}", flush=True)

    def view(self, view: TicketView, admission: str) -> None:
        """Says once why the ticket waits."""
        if not self._json and admission and admission != self._why:
            self._why = admission
            print(f"          {safe(why(view, admission))}", flush=True)


class Table:
    """The steps of one ticket, the newest lines, and the gates, redrawn in place."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._console = Console(file=sys.stdout)
        self._lines: list[tuple[float, str]] = []
        self._gates: dict[str, GateFinished] = {}
        self._state = "queued"
        self._title = ""
        self._why = ""
        self._first: float | None = None
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> Table:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def event(self, event: Envelope) -> None:
        self._first = self._first if self._first is not None else event.at
        if isinstance(event.data, StateChanged):
            self._state = event.data.state.value
        if isinstance(event.data, GateFinished):
            self._gates[event.data.name] = event.data
        elif line := sentence(event):
            self._lines.append((event.at - self._first, safe(line)))

    def view(self, view: TicketView, admission: str) -> None:
        self._title = safe(f"{view.id}  {view.ticket.issue}  {view.ticket.title}")
        self._why = safe(why(view, admission))

    def _render(self) -> RenderableType:
        return Group(Text(self._title, style="bold"), self._progress(), *self._body(), Text(self._why, style="italic"))

    def _progress(self) -> Text:
        line = Text()
        done = self._state in _STEPS
        reached = _STEPS.index(self._state) if done else -1
        for number, step in enumerate(_STEPS):
            style = "bold cyan" if number == reached else "green" if number < reached else "dim"
            line.append(f"{step.replace('_', ' ')}", style=style)
            line.append(" → " if number + 1 < len(_STEPS) else "", style="dim")
        if not done:
            line.append(f"   {self._state.replace('_', ' ')}", style="bold yellow")
        return line

    def _body(self) -> list[Text]:
        rows = [Text(f"{at:7.1f}s  {line}") for at, line in self._lines[-_LINES:]]
        for gate in self._gates.values():
            passed = Outcome(gate.outcome) in PASSING
            mark, style = ("✓", "green") if passed else ("✗", "red")
            rows.append(Text(f"   {mark} {safe(gate.name):<12} {gate.outcome:<12} {safe(gate.summary)}", style=style))
        return rows


def keep_serving() -> None:
    """Holds the fleet in use until q (or Ctrl-C) is pressed, so that its pages stay up while somebody reads them."""
    print("serving the pages; press q to leave (the fleet then stops by itself when nobody needs it)", flush=True)
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        while sys.stdin.read(1) not in ("q", "Q", "\x04", ""):
            pass
    except KeyboardInterrupt:
        print()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _plain(data: object) -> object:
    import json  # noqa: PLC0415 - only the JSON printer needs it

    return json.loads(encode(data))
