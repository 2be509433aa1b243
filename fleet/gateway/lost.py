"""What was spent in a ledger that was lost is spent: it is taken off every limit of the new one (I8). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fleet.core.recovery import Taken
from fleet.core.spend import MICRO, Caps, day_of
from fleet.core.view import TicketView


def less_what_was_lost(caps: Caps, view: TicketView, taken: Iterable[Taken], day: str) -> Caps:
    """``taken``: every ticket that was taken over. When it spent is not known: it counts for the day it was found."""
    before = view.recovered
    usd, calls, tokens = (before.usd, before.model_calls, before.tokens) if before else (0.0, 0, 0)
    found = [(day_of(one.at), one) for one in taken]
    today = [one for on, one in found if on == day]
    month = [one for on, one in found if on[:7] == day[:7]]
    mine = [one for one in today if one.tenant == view.ticket.tenant]
    return replace(
        caps,
        ticket_micros=caps.ticket_micros - _micros(usd),
        calls=caps.calls - calls,
        tokens=caps.tokens - tokens,
        day_micros=caps.day_micros - _sum(today),
        tenant_micros=caps.tenant_micros - _sum(mine),
        fleet_micros=caps.fleet_micros - _sum(month),
        # Below 0 it would mean that nothing is asked.
        soft_micros=max(0, caps.soft_micros - _micros(usd)) if caps.soft_micros >= 0 else caps.soft_micros,
    )


def _sum(taken: Iterable[Taken]) -> int:
    return sum(_micros(one.usd) for one in taken)


def _micros(usd: float) -> int:
    return round(usd * MICRO)
