"""Budgets at four levels: ticket, tenant, day, fleet. Set aside before each call, asked for in time, never passed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.adapters import keys
from fleet.adapters.clock import SystemClock
from fleet.adapters.spend import SpendBook
from fleet.core.spend import Caps, Refusal, Reservation, Usage, day_of, dollars
from fleet.core.tenants import Money
from fleet.core.view import TicketView
from fleet.gateway.books import Granted, Refused
from fleet.gateway.wire import Call
from tests.gateway.conftest import Place

CALL = Call("rehearsal/x", 2000, True, b"x" * 1000)
LONG = 3600.0
YEARS = count(1000)


def work(place: Place, tenant: str = "default", number: int = 1, **limits: Any) -> TicketView:
    """A ticket of ``tenant`` at work."""
    view = place.at_work(**limits)
    del place.views[view.id]
    mine = replace(view.ticket, id=f"{tenant}-{number}", tenant=tenant)
    place.views[mine.id] = replace(view, ticket=mine)
    return place.views[mine.id]


def grant(place: Place, view: TicketView, call: Call = CALL) -> Granted | Refused:
    return place.books().grant(view.id, place.views[view.id].attempt, "rehearsal", call)


def until_refused(place: Place, view: TicketView, usage: Usage) -> Refused:
    """One call after the other, each of which uses ``usage``."""
    books = place.books()
    for _ in range(500):
        answer = books.grant(view.id, view.attempt, "rehearsal", CALL)
        if isinstance(answer, Refused):
            return answer
        books.settle(answer, usage)
    raise AssertionError("nothing stopped it")


USED = Usage(input_tokens=300, output_tokens=1500)


@pytest.mark.invariant("I8")
@pytest.mark.parametrize(
    ("limit", "refusal"), [("tenant_usd", Refusal.TENANT), ("day_usd", Refusal.DAY), ("fleet_usd", Refusal.FLEET)]
)
def test_each_level_stops_the_call_before_the_spend(place: Place, limit: str, refusal: Refusal) -> None:
    setattr(place, limit, 0.1)
    refused = until_refused(place, work(place), USED)
    assert refused.refusal is refusal and "$0.1" in refused.message, refused
    today = day_of(SystemClock().now())
    for spent in (place.book.tenant("default", today), place.book.day(today), place.book.month(today[:7])):
        assert 0 < spent.micros <= 100_000 and spent.reserved == 0
    other = work(place, "default", 2)
    assert isinstance(grant(place, other), Refused), "another ticket shares what is used up"


@pytest.mark.invariant("I22")
def test_a_greedy_tenant_spends_its_own_share_only(place: Place) -> None:
    """Two shares of one size: when the one is used up, nothing of the other is."""
    place.tenants = {"greedy": 0.1, "modest": 0.1}
    greedy, modest = work(place, "greedy"), work(place, "modest")
    refused = until_refused(place, greedy, USED)
    assert refused.refusal is Refusal.TENANT and "greedy" in refused.message
    assert isinstance(grant(place, modest), Granted)
    again = work(place, "greedy", 2)
    assert isinstance(grant(place, again), Refused), "a second ticket brings no second share"


def test_a_share_is_never_wider_than_what_it_is_a_part_of() -> None:
    money = Money(day_usd=10.0, tenant_usd=6.0, fleet_usd=None, tenants={"a": 2.0, "b": 50.0})
    assert [money.tenant(name) for name in ("a", "b", "c")] == [2.0, 6.0, 6.0]
    assert money.fleet == 310.0 and replace(money, fleet_usd=40.0).fleet == 40.0
    assert replace(money, fleet_usd=1e9).fleet == 310.0, "a month cannot be more than its days"


# --- the soft limit, and what people allow ---------------------------------------------------------------------------
@pytest.mark.invariant("I8")
def test_a_ticket_asks_before_it_spends_the_rest(place: Place) -> None:
    place.soft = 0.5
    view = work(place, usd=0.4)
    refused = until_refused(place, view, USED)
    spent = place.book.ticket(view.id).usd
    assert refused.refusal is Refusal.SOFT and 0.2 <= spent < 0.3, spent
    assert "asks" in refused.message and dollars(spent) in refused.message and "$0.4" in refused.message
    # A person allows more: it goes on, and asks again in what was allowed last.
    place.views[view.id] = allowed = replace(view, raised_usd=0.4, raised_last=0.4)
    again = until_refused(place, allowed, USED)
    assert again.refusal is Refusal.SOFT and 0.6 <= place.book.ticket(view.id).usd < 0.8


@pytest.mark.invariant("I8")
def test_what_people_allow_is_never_beyond_day_tenant_and_fleet(place: Place) -> None:
    place.tenants = {"small": 0.2}
    view = work(place, "small", usd=0.05)
    place.views[view.id] = allowed = replace(view, raised_usd=100.0, raised_last=100.0)
    assert until_refused(place, allowed, USED).refusal is Refusal.TENANT
    assert place.book.ticket(view.id).usd <= 0.2


def test_a_soft_limit_of_one_never_asks(place: Place) -> None:
    assert until_refused(place, work(place, usd=0.2), USED).refusal is Refusal.BUDGET


# --- gateways that die -----------------------------------------------------------------------------------------------
@pytest.mark.invariant("I8")
def test_what_a_killed_gateway_set_aside_is_closed_when_it_must_be_over_and_never_earlier(place: Place) -> None:
    view = work(place)
    first = grant(place, view)
    assert isinstance(first, Granted)
    held = place.book.ticket(view.id)
    assert place.book.close() == 0 and place.book.ticket(view.id) == held, "it may still be under way"
    due: Any = place.client.zscore(keys.of("spend", "due"), first.reservation.id)
    clock: Any = place.client.time()
    seconds, micros = clock
    assert 0 <= seconds + micros / 1e6 + LONG - due < 60, "by the store's clock"
    place.longest = 0.0
    second = grant(place, view)
    assert isinstance(second, Granted)
    assert place.book.close() == 1
    now = place.book.ticket(view.id)
    assert now.reserved == first.reservation.micros, "the first may still be under way"
    assert now.micros == second.reservation.micros, "the provider may bill all of it"
    today = second.reservation.day
    for spent in (place.book.tenant("default", today), place.book.day(today), place.book.month(today[:7])):
        assert (spent.micros, spent.reserved) == (now.micros, now.reserved)
    place.books().settle(second, USED)
    assert place.book.ticket(view.id) == now, "its gateway was only slow: counted once all the same"
    assert place.book.close() == 0


def test_the_gateway_closes_them_by_itself(place: Place) -> None:
    view = work(place)
    place.longest = 0.0
    assert isinstance(grant(place, view), Granted)
    place.longest = LONG
    assert isinstance(grant(place, view), Granted), "another gateway, later"
    assert place.book.ticket(view.id).micros > 0


@dataclass
class Bank:
    """What the provider could bill at most, beside the book; a crash is a call of which nothing more is heard."""

    book: SpendBook
    limits: Caps
    day: str
    open: list[Reservation] = field(default_factory=list)
    billed: int = 0

    def held(self) -> None:
        """The law: whatever happened, what was billed stands in the book, and the book never passes a limit."""
        tenants = [self.book.tenant(name, self.day) for name in ("a", "b")]
        day, month = self.book.day(self.day), self.book.month(self.day[:7])
        for spent, limit in (
            *((one, self.limits.tenant_micros) for one in tenants),
            (day, self.limits.day_micros),
            (month, self.limits.fleet_micros),
        ):
            assert spent.micros >= 0 and spent.reserved >= 0
            assert spent.micros + spent.reserved <= limit, (spent, limit)
        assert self.billed <= day.micros + day.reserved <= self.limits.day_micros
        assert day.micros == sum(one.micros for one in tenants) == month.micros
        assert day.reserved == sum(one.reserved for one in tenants) == month.reserved


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "settle", "settle twice", "die before the call", "die after the call", "close"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 60_000),
        st.floats(0, 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)
LIMITS = st.tuples(*(st.integers(20_000, 250_000) for _ in range(4)))


def spent_is_bounded(book: SpendBook, limits: tuple[int, int, int, int], steps: list[Any]) -> None:
    ticket, tenant, day, fleet = limits
    year = next(YEARS)
    bank = Bank(book, Caps(ticket, 1000, 10**9, day, tenant, fleet), f"{year}-01-01")
    for number, (verb, who, micros, share, over) in enumerate(steps):
        name = f"p{year}-{who}"
        if verb == "close":
            book.close()
        elif verb.startswith("settle") and bank.open:
            one = bank.open.pop(0)
            used = int(one.micros * share)
            bank.billed += used
            for _ in range(2 if verb == "settle twice" else 1):
                book.settle(one, used, Usage(output_tokens=1))
        elif not verb.startswith("settle"):
            one = Reservation(f"{name}-{number}", name, 1, bank.day, micros, 10, tenant=who)
            dies = verb.startswith("die")
            if book.reserve(one, bank.limits, 0.0 if dies and over else LONG) is None:
                if verb == "die after the call":
                    bank.billed += one.micros
                elif not dies:
                    bank.open.append(one)
        bank.held()
        assert book.ticket(name).micros + book.ticket(name).reserved <= ticket


@pytest.mark.invariant("I8")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, STEPS)
def test_spent_and_set_aside_never_pass_a_limit_wherever_it_crashes(
    place: Place, limits: tuple[int, int, int, int], steps: list[Any]
) -> None:
    spent_is_bounded(place.book, limits, steps)


def two_of_one_tenant(place: Place) -> None:
    """Fixed lives of which each switched-off protection spoils one."""
    calls = [("call", who, 30_000, 1.0, False) for who in "abababab"]
    for limits in ((10**6, 10**6, 10**6, 70_000), (10**6, 10**6, 70_000, 10**6), (10**6, 70_000, 10**6, 10**6)):
        spent_is_bounded(place.book, limits, [*calls, *(("settle", "a", 0, 1.0, False) for _ in calls), *calls])
    died = [("die after the call", "a", 30_000, 1.0, True), ("close", "a", 0, 0.0, False)]
    spent_is_bounded(place.book, (10**6, 10**6, 70_000, 10**6), [*died * 4])


def test_fixed_lives(place: Place) -> None:
    two_of_one_tenant(place)
