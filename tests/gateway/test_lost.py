"""What a lost ledger had booked is still spent: for its ticket, its tenant, the day and the month (I8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.core.recovery import Recovered, Taken
from fleet.core.spend import MICRO, Caps, Refusal
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.gateway.books import Refused
from fleet.gateway.lost import less_what_was_lost
from tests.gateway.conftest import Place
from tests.gateway.test_budgets import grant, work
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

NOON = 1_767_268_800.0  # 2026-01-01, 12:00 UTC
CAPS = Caps(2 * MICRO, 100, 5000, 20 * MICRO, 10 * MICRO, 300 * MICRO, round(1.6 * MICRO))


def view(usd: float = 0.0, calls: int = 0, tokens: int = 0) -> TicketView:
    known = Recovered(State.QUEUED, Reason.RECOVERED, attempts=1, usd=usd, model_calls=calls, tokens=tokens)
    return TicketView(ticket(agent="anthropic"), State.RUNNING, Reason.CLAIMED, 0.0, recovered=known)


@pytest.mark.invariant("I8")
def test_every_limit_is_lowered_by_what_was_lost() -> None:
    taken = [Taken(NOON, 1.5), Taken(NOON, 2.0, "other"), Taken(NOON - 86_400 * 40, 9.0), Taken(NOON + 86_400, 4.0)]
    left = less_what_was_lost(CAPS, view(1.5, 30, 1000), taken, "2026-01-01")
    assert left == Caps(
        ticket_micros=500_000,
        calls=70,
        tokens=4000,
        day_micros=round(16.5 * MICRO),
        tenant_micros=round(8.5 * MICRO),
        fleet_micros=round(292.5 * MICRO),
        soft_micros=100_000,
    )
    assert less_what_was_lost(CAPS, replace(view(), recovered=None), (), "2026-01-01") == CAPS
    never = replace(CAPS, soft_micros=-1)
    assert less_what_was_lost(never, view(9.0), (), "2026-01-01").soft_micros == -1
    assert less_what_was_lost(CAPS, view(9.0), (), "2026-01-01").soft_micros == 0, "it asks at once"


def used_up(place: Place) -> None:
    """A ticket whose calls were all made before its ledger was lost asks for one more."""
    made = work(place)
    known = Recovered(State.QUEUED, Reason.RECOVERED, attempts=1, model_calls=made.ticket.limits.model_calls)
    place.views[made.id] = replace(made, recovered=known)
    answer = grant(place, made)
    assert isinstance(answer, Refused) and answer.refusal is Refusal.CALLS
    assert place.book.ticket(made.id).calls == 0


@pytest.mark.invariant("I8")
def test_a_recovered_ticket_that_had_used_its_calls_makes_no_other(place: Place) -> None:
    used_up(place)


def test_a_gateway_that_forgets_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.gateway.lost:less_what_was_lost", "calls=caps.calls - calls", "calls=caps.calls").install(monkeypatch)
    with pytest.raises(AssertionError):
        used_up(place)
