"""A clock that only moves when a test says so."""

from __future__ import annotations


class VirtualClock:
    """``jump`` moves the wall clock alone, as a person or NTP does."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._mono = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._mono

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._mono += seconds

    def jump(self, seconds: float) -> None:
        self._now += seconds


class FixedDice:
    def __init__(self, value: float = 0.5) -> None:
        self.value = value

    def uniform(self) -> float:
        return self.value
