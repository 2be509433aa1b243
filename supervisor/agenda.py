"""When to look at something again: a pass costs what is due, not what exists."""

from __future__ import annotations

import heapq
from itertools import count

NEVER = float("inf")


class Agenda:
    """Moments on the owner's monotonic clock, at most one for each name: the earliest that was asked for."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        # What an earlier moment replaced stays in the heap and is passed over later. The number keeps equals in order.
        self._heap: list[tuple[float, int, str]] = []
        self._number = count()

    def at(self, name: str, when: float) -> None:
        """Look at ``name`` at ``when``, unless it is to be looked at sooner anyway. ``NEVER`` changes nothing."""
        known = self._at.get(name, NEVER)
        if when < known:
            self._at[name] = when
            heapq.heappush(self._heap, (when, next(self._number), name))

    def drop(self, name: str) -> None:
        self._at.pop(name, None)

    def next(self) -> float:
        """The earliest moment; ``NEVER`` when there is none."""
        heap, at = self._heap, self._at
        while heap and at.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def due(self, mono: float, most: int | None = None) -> list[str]:
        """Takes out what is due at ``mono``, earliest first, ``most`` at once."""
        names: list[str] = []
        while (most is None or len(names) < most) and self.next() <= mono:
            name = heapq.heappop(self._heap)[2]
            del self._at[name]
            names.append(name)
        return names
