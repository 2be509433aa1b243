"""The table that ``fleet run`` redraws in a terminal. Apart from the printer: nobody else waits for its library."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fleet.cli.safe import safe
from fleet.cli.wording import sentence, why
from fleet.core.events import Envelope, GateFinished, StateChanged
from fleet.core.gates import PASSING, Outcome
from fleet.core.view import TicketView

_STEPS = ("queued", "starting", "running", "gating", "publishing", "in_review")
_LINES = 8


class Table:
    """The steps of one ticket, the newest lines, and the gates, redrawn in place."""

    def __init__(self) -> None:
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
