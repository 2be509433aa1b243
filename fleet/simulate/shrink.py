"""From a failing world to its shortest story: fewer tickets, then fewer faults, as long as the same promise breaks.

Deterministic: the same plan always ends in the same story.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fleet.simulate.world import Outcome, Plan, run

T = TypeVar("T")
RUNS = 250


@dataclass(frozen=True, slots=True)
class Story:
    """``plan`` is the smallest world found that breaks ``promise``; ``lines`` are what happened in it."""

    promise: str
    text: str
    ticket: str
    plan: Plan
    tickets: int
    faults: int
    lines: tuple[str, ...]


def shortest(plan: Plan, outcome: Outcome, runs: int = RUNS) -> Story:
    """``outcome`` is what became of ``plan``; at most ``runs`` more worlds are tried."""
    assert outcome.broken is not None
    promise, left = outcome.broken.promise, [runs]

    def breaks(tried: Plan) -> Outcome | None:
        if left[0] <= 0:
            return None
        left[0] -= 1
        found = run(tried)
        return found if found.broken is not None and found.broken.promise == promise else None

    best, last = plan, outcome
    numbers = _culprit(plan, outcome)
    if numbers and (found := breaks(replace(plan, numbers=numbers))):
        best, last = replace(plan, numbers=numbers), found
    else:
        few = _fewer(list(plan.numbers), lambda some: breaks(replace(plan, numbers=tuple(some))) is not None)
        best = replace(plan, numbers=tuple(few))
        last = run(best)
    names = _fewer(list(last.struck), lambda some: breaks(replace(best, only=frozenset(some))) is not None)
    best = replace(best, only=frozenset(names))
    lines: list[str] = []
    last = run(best, lambda at, who, text: lines.append(f"{at:9.1f} s  {who}: {text}"))
    assert last.broken is not None
    return Story(promise, last.broken.text, last.broken.ticket, best, last.tickets, len(last.struck), tuple(lines))


def _culprit(plan: Plan, outcome: Outcome) -> tuple[int, ...]:
    """The number of the ticket that the broken promise is about; its id reads name-number-digest."""
    name = outcome.broken.ticket if outcome.broken else ""
    numbers = tuple(int(part) for part in name.split("-")[1:2])
    return numbers if set(numbers) <= set(plan.numbers) else ()


def _fewer(items: list[T], breaks: Callable[[Sequence[T]], bool]) -> list[T]:
    """Leaves out halves, then quarters, then less, as long as what is left still breaks the promise."""
    size = len(items)
    while size >= 1:
        start = 0
        while start < len(items):
            some = items[:start] + items[start + size :]
            if (some or size == len(items)) and breaks(some):
                items = some
            else:
                start += size
        size = min(size // 2, max(1, len(items))) if size > 1 else 0
    return items
