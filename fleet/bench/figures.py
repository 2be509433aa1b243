"""Figures: samples, what they add up to, and how they read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Any


class Unit(Enum):
    """How a number is written. Times are seconds, memory is bytes."""

    MICRO = "µs"
    MS = "ms"
    SECONDS = "s"
    RATE = "/s"
    RATIO = "×"
    PERCENT = "%"
    KILO = "kB"
    MEMORY = "MB"
    COUNT = ""


_SCALE = {Unit.MICRO: 1_000_000.0, Unit.MS: 1000.0, Unit.KILO: 1 / 1000, Unit.MEMORY: 1 / 1_000_000}
_DIGITS = {
    Unit.MICRO: 1,
    Unit.MS: 1,
    Unit.SECONDS: 2,
    Unit.RATE: 1,
    Unit.RATIO: 2,
    Unit.PERCENT: 2,
    Unit.KILO: 1,
    Unit.MEMORY: 1,
    Unit.COUNT: 0,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What the figure's median should be: at most, or at least, ``value`` in the figure's own unit."""

    value: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.value if self.at_least else value <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report. ``samples`` are in seconds, bytes or plain numbers, as ``unit`` says; never empty."""

    name: str
    unit: Unit
    samples: tuple[float, ...]
    target: Target | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.name}: nothing was measured")

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def met(self) -> bool | None:
        """None: there is no target."""
        return None if self.target is None else self.target.met(self.median)

    def row(self) -> dict[str, Any]:
        """For scripts: numbers in the unit that is named."""
        target = {} if self.target is None else {"target": self._number(self.target.value), "met": self.met}
        return {
            "name": self.name,
            "unit": self.unit.value,
            "n": len(self.samples),
            "median": self._number(self.median),
            "min": self._number(min(self.samples)),
            "max": self._number(max(self.samples)),
            **target,
            **({"note": self.note} if self.note else {}),
        }

    def line(self) -> str:
        """For people: name, median, span, n, target."""
        count = len(self.samples)
        span = f"{self._text(min(self.samples))} – {self._text(max(self.samples))}, n {count}" if count > 1 else "n 1"
        target = ""
        if self.target is not None:
            sign = "≥" if self.target.at_least else "≤"
            target = f"target {sign} {self._text(self.target.value)}  {'ok' if self.met else 'MISSED'}"
        said = f"  {self.name:<46} {self._text(self.median):>10}  {f'({span})':<30} {target}"
        return f"{said.rstrip()}  {self.note}".rstrip()

    def _number(self, value: float) -> float:
        return round(value * _SCALE.get(self.unit, 1.0), 4)

    def _text(self, value: float) -> str:
        space = "" if self.unit in (Unit.RATIO, Unit.RATE, Unit.COUNT) else " "
        return f"{value * _SCALE.get(self.unit, 1.0):.{_DIGITS[self.unit]}f}{space}{self.unit.value}"


@dataclass(frozen=True, slots=True)
class Report:
    """One measure: what it did, its figures, and tables for people."""

    measure: str
    what: str
    figures: tuple[Figure, ...]
    details: tuple[str, ...] = ()


def side_by_side(rounds: int, *measured: Callable[[], float]) -> tuple[tuple[float, ...], ...]:
    """Samples of each function, taken in turns (A B A B …): what slows the machine down meets all alike."""
    taken: list[list[float]] = [[] for _ in measured]
    for _ in range(rounds):
        for samples, one in zip(taken, measured, strict=True):
            samples.append(one())
    return tuple(tuple(samples) for samples in taken)


def differences(ours: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Pair by pair: each sample minus the one that was taken beside it."""
    return tuple(mine - other for mine, other in zip(ours, reference, strict=True))


def ratios(ours: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Pair by pair. A reference of 0 is no reference: ZeroDivisionError."""
    return tuple(mine / other for mine, other in zip(ours, reference, strict=True))
