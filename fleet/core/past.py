"""What is remembered of a ticket that was forgotten. Stands by itself: the ports name it, and they need no library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Past:
    """A ticket that ended long ago: enough to count generations, and to know which label it answered.

    ``at``: when it was accepted, Unix time.
    """

    state: str
    at: float
    trigger: str = ""
