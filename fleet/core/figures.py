"""What a page of figures is made of: families of numbers with labels, as the adapters print them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

Labels = tuple[str, ...]


class FigureKind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(slots=True)
class Family:
    """``names``: of the labels; ``values``: labels → number. A counter's name is given without ``_total``."""

    name: str
    kind: FigureKind
    help: str
    names: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, amount: float, *labels: str) -> None:
        """Nothing is ever taken off: what counts down is no counter."""
        self.values[labels] = self.values.get(labels, 0.0) + max(0.0, amount)


@dataclass(slots=True)
class Timings:
    """A histogram. ``bounds`` in seconds, rising; ``counts`` per labels has one more place, for what is longer."""

    name: str
    help: str
    bounds: tuple[float, ...]
    names: Labels = ()
    counts: dict[Labels, list[int]] = field(default_factory=dict)
    sums: dict[Labels, float] = field(default_factory=dict)

    def add(self, seconds: float, *labels: str) -> None:
        """A clock that jumped back makes no negative time."""
        seconds = max(0.0, seconds)
        place = next((n for n, bound in enumerate(self.bounds) if seconds <= bound), len(self.bounds))
        self.counts.setdefault(labels, [0] * (len(self.bounds) + 1))[place] += 1
        self.sums[labels] = self.sums.get(labels, 0.0) + seconds


Figures = tuple[Family | Timings, ...]
