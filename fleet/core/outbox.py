"""An order that still stands."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.core.effects import Effect


@dataclass(frozen=True, slots=True)
class Outstanding:
    """``due``: wall-clock Unix time before which it is not sent. Gone from the outbox = done or withdrawn."""

    effect: Effect
    due: float
