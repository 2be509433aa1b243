"""The table that ``fleet demo`` redraws in a terminal: a row for each ticket, and the newest lines of the story."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from fleet.cli.safe import safe
from fleet.cli.wording import sentence
from fleet.core.events import AttemptStarted, Envelope, GateFinished, StateChanged, TicketAccepted, TurnFinished
from fleet.core.gates import INFRA, PASSING, Outcome

_LINES = 8
_STYLES = {
    "in_review": "green", "merged": "green", "parked": "yellow", "backing_off": "yellow", "rejected": "red",
    "escalated": "red", "cancelled": "red", "closed": "red",
}  # fmt: skip


@dataclass
class _Row:
    title: str = ""
    state: str = "waiting"
    attempt: int = 0
    turns: int = 0
    gates: list[str] = field(default_factory=list)
    last: str = ""


class Board:
    """``names``: a row for each, in this order."""

    def __init__(self, names: Sequence[str]) -> None:
        self._rows = {name: _Row() for name in names}
        self._story: list[tuple[float, str, str]] = []
        self._live = Live(console=Console(file=sys.stdout), get_renderable=self._render, refresh_per_second=6)

    def __enter__(self) -> Board:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def event(self, name: str, event: Envelope, at: float, line: str) -> None:
        """``at``: seconds since the beginning; ``line``: for the story, empty when it is not part of it."""
        row, data = self._rows[name], event.data
        if isinstance(data, TicketAccepted):
            row.title = safe(data.ticket.title)
        elif isinstance(data, StateChanged):
            row.state = data.state.value
            if row.state == "gating":
                row.gates.clear()
        elif isinstance(data, AttemptStarted):
            row.attempt, row.turns = event.attempt, 0
        elif isinstance(data, TurnFinished):
            row.turns = data.turn
        elif isinstance(data, GateFinished):
            outcome = Outcome(data.outcome)
            row.gates.append("·" if outcome in INFRA else "✓" if outcome in PASSING else "✗")
        if said := sentence(event):
            row.last = safe(said.splitlines()[0])
        if line:
            self._story.append((at, name, safe(line)))

    def _render(self) -> RenderableType:
        grid = Grid(box=None, pad_edge=False, expand=True)
        for column, width in (("", 10), ("state", 11), ("attempt", 7), ("turns", 5), ("gates", 6)):
            grid.add_column(column, width=width, no_wrap=True)
        grid.add_column("now", ratio=1, no_wrap=True, overflow="ellipsis")
        for name, row in self._rows.items():
            gates = Text("".join(row.gates), style="red" if "✗" in row.gates else "green")
            grid.add_row(
                Text(name, style="bold"),
                Text(row.state.replace("_", " "), style=_STYLES.get(row.state, "cyan")),
                str(row.attempt or ""),
                str(row.turns or ""),
                gates,
                Text(row.last or row.title, style="dim"),
            )
        lines = [
            Text(f"{at:6.1f}s  {name:<10} {line}", no_wrap=True, overflow="ellipsis")
            for at, name, line in self._story[-_LINES:]
        ]
        return Group(grid, Text(""), *lines)
