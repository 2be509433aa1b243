"""Virtual time: a queue of what happens when. Nothing waits; the next thing simply is the next moment."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

EPOCH = 1_800_000_000.0


class Timeline:
    """Implements ``fleet.core.ports.Clock``. ``skew``: seconds that the wall clock was moved by."""

    def __init__(self) -> None:
        self.skew = 0.0
        self._now = 0.0
        self._number = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return EPOCH + self._now + self.skew

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        """The caller stands still while everything else goes on: also how a frozen process is played."""
        self.run(self._now + seconds)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._queue, (self._now + seconds, self._number, call))

    def upcoming(self) -> float:
        """The moment of what happens next; infinity when nothing will."""
        return self._queue[0][0] if self._queue else float("inf")

    def skip(self, seconds: float) -> None:
        """Time passes in which nothing happens at all: everything that is due is due as much later."""
        self._now += seconds
        self._queue[:] = [(at + seconds, number, call) for at, number, call in self._queue]

    def run(self, until: float) -> None:
        """Everything up to ``until``, oldest first. May be called from within a call."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            at, _, call = heappop(queue)
            self._now = max(self._now, at)
            call()
        self._now = max(self._now, until)
