"""What was spent in a ledger that was lost is spent: it is taken off every limit of the new one (I8). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fleet.core.journal import Lost
from fleet.core.recovery import Taken
from fleet.core.spend import MICRO, Caps, day_of
from fleet.core.view import TicketView


def less_what_was_lost(caps: Caps, view: TicketView, taken: Iterable[Taken], day: str, lost: Lost) -> Caps:
    """``taken``: every ticket that was taken over.
    ``lost``: the journal beside the store. Neither need hold everything, so the larger of both counts.
    """
    before, told = view.recovered, lost.ticket(view.id)
    usd, calls, tokens = (before.usd, before.model_calls, before.tokens) if before else (0.0, 0, 0)
    micros = max(_micros(usd), told.micros)
    whole, tenant, month = at_each_level(taken, lost, day, view.ticket.tenant)
    return replace(
        caps,
        ticket_micros=caps.ticket_micros - micros,
        calls=caps.calls - max(calls, told.calls),
        tokens=caps.tokens - max(tokens, told.tokens),
        day_micros=caps.day_micros - whole,
        tenant_micros=caps.tenant_micros - tenant,
        fleet_micros=caps.fleet_micros - month,
        # Below 0 it would mean that nothing is asked.
        soft_micros=max(0, caps.soft_micros - micros) if caps.soft_micros >= 0 else caps.soft_micros,
    )


def at_each_level(taken: Iterable[Taken], lost: Lost, day: str, tenant: str) -> tuple[int, int, int]:
    """Millionths of a dollar that lost ledgers let be spent: by the home and by ``tenant`` on that day, and by the home
    in its month. When a ticket that was taken over had spent is not known: it counts for the day it was found.
    """
    found = [(day_of(one.at), one) for one in taken]
    today = [one for on, one in found if on == day]
    month = [one for on, one in found if on[:7] == day[:7]]
    mine = [one for one in today if one.tenant == tenant]
    return (
        max(_sum(today), lost.day(day)),
        max(_sum(mine), lost.tenant(tenant, day)),
        max(_sum(month), lost.month(day[:7])),
    )


def _sum(taken: Iterable[Taken]) -> int:
    return sum(_micros(one.usd) for one in taken)


def _micros(usd: float) -> int:
    return round(usd * MICRO)
