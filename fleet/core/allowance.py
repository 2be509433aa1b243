"""How much a ticket may spend now: its own limits, what people allowed on top, and where it asks first. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fleet.core.errors import UsageError
from fleet.core.ticket import TicketLimits
from fleet.core.view import TicketView

# More than any day of any home; a slip of the finger must not become a limit.
MOST_USD = 10_000.0
LEAST_USD = 0.01


@dataclass(frozen=True, slots=True)
class Allowance:
    """``limits`` are hard. ``soft_usd``: once that much is spent the ticket asks before its next call."""

    limits: TicketLimits
    soft_usd: float


def allowance(view: TicketView, soft: float) -> Allowance:
    """The limits frozen into the ticket, raised by what people allowed; ``soft`` is a share of 1 (1: never asks).

    A dollar that was allowed brings its share of calls and tokens with it: it would be of no use otherwise. The soft
    limit lies in what was granted last, above everything that could be spent before: each answer gives room to work.
    """
    frozen, raised = view.ticket.limits, max(0.0, view.raised_usd)
    usd = frozen.usd + raised
    share = usd / frozen.usd if frozen.usd > 0 else 1.0
    limits = replace(
        frozen,
        usd=usd,
        model_calls=math.ceil(frozen.model_calls * share),
        tokens=math.ceil(frozen.tokens * share),
    )
    last = view.raised_last if raised else frozen.usd
    return Allowance(limits, usd - (1.0 - min(1.0, max(0.0, soft))) * min(last, usd))


def amount(text: str) -> float:
    """Dollars that a person wrote: ``3``, ``$2.50``. Raises UsageError for anything else."""
    try:
        usd = float(text.strip().removeprefix("$"))
    except ValueError:
        usd = math.nan
    if not LEAST_USD <= usd <= MOST_USD:
        raise UsageError(
            f"{text[:40]!r} is no amount of dollars.", f"Say {LEAST_USD:g} to {MOST_USD:g}, for example 2."
        )
    return usd
