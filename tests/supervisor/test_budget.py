"""A ticket that was stopped for money waits for a person's word, and goes on with its work when it comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.allowance import LEAST_USD, MOST_USD, allowance, amount
from fleet.core.effects import EffectKind
from fleet.core.errors import FleetError, UsageError
from fleet.core.events import (
    AttemptFailed,
    AttemptStarted,
    BudgetRaised,
    Envelope,
    RetryRequested,
    Source,
    StateChanged,
)
from fleet.core.frozen import replace
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.ticket import TicketLimits
from fleet.core.view import News, TicketView
from supervisor.fold import fold
from supervisor.people import GO_ON
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

OUT = AttemptFailed(FailureClass.BUDGET, "The ticket asks before it spends more: $1.60 are spent of its $2.")


def goes_on(world: World) -> None:
    """Three times its money is used up, which is no failure of its attempts; each time it goes on with its work."""
    supervisor, wanted = world.make(), ticket(agent="anthropic", limits=TicketLimits(attempts=1))
    world.running(supervisor, wanted)
    ledger = world.ledgers["attempt"]
    for number in range(1, 4):
        world.players.attempt_says(wanted.id, number, OUT)
        world.turns(supervisor)
        view = world.seen(wanted)
        assert (view.state, view.reason, view.slot) == (State.PARKED, Reason.BUDGET, 0)
        assert "asks before it spends more" in view.detail
        world.turns(supervisor, 20, 60.0)
        assert world.seen(wanted).state is State.PARKED, "nothing goes on without a word"
        world.players.woken.clear()
        world.players.person(wanted.id, BudgetRaised("ann", 1.5))
        world.turns(supervisor)
        (effect,) = world.ordered(wanted, EffectKind.START_ATTEMPT)
        view = world.seen(wanted)
        assert (view.attempt, view.repair, view.digest) == (number + 1, number, GO_ON)
        assert (view.raised_usd, view.raised_last) == (1.5 * number, 1.5)
        assert view.attempt - view.hand_backs == 1, "the stop is not counted"
        assert ledger.begin("agents", effect, "guard")
        world.players.attempt_says(wanted.id, number + 1, AttemptStarted("h", 1, "anthropic", ledger.incarnation()))
        world.turns(supervisor, 2)


@pytest.mark.invariant("I8")
def test_a_person_lets_it_go_on(world: World) -> None:
    goes_on(world)


def said_in_time(world: World, first: str) -> None:
    """The word lands in the moment before its ticket parks: it counts, once."""
    supervisor, wanted = world.make(), ticket(agent="anthropic", limits=TicketLimits(attempts=1))
    world.running(supervisor, wanted)
    said = {
        "agent": lambda: world.players.attempt_says(wanted.id, 1, OUT),
        "person": lambda: world.players.person(wanted.id, BudgetRaised("ann", 1.5)),
    }
    said.pop(first)()
    said.popitem()[1]()
    world.turns(supervisor)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.repair, view.raised_usd) == (State.STARTING, 2, 1, 1.5)
    moves = [event.data for _, event in world.ledgers["people"].log(wanted.id) if isinstance(event.data, StateChanged)]
    assert [(move.state, move.reason) for move in moves[-3:-1]] == [
        (State.PARKED, Reason.BUDGET),
        (State.QUEUED, Reason.APPROVED),
    ]
    (effect,) = world.ordered(wanted, EffectKind.START_ATTEMPT)
    ledger = world.ledgers["attempt"]
    assert ledger.begin("agents", effect, "guard")
    world.players.attempt_says(wanted.id, 2, AttemptStarted("h", 1, "anthropic", ledger.incarnation()), OUT)
    world.turns(supervisor)
    assert world.seen(wanted).state is State.PARKED, "one word is one answer"


@pytest.mark.parametrize("first", ["agent", "person"])
def test_a_word_in_the_moment_before_it_parks_counts(world: World, first: str) -> None:
    said_in_time(world, first)


def test_a_word_for_work_that_ended_otherwise_waits_for_no_later_question(world: World) -> None:
    """Raised while it ran, and lost: when the next attempt's money is used up, it asks."""
    supervisor, wanted = world.make(), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    world.players.person(wanted.id, BudgetRaised("ann", 1.5))
    world.players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.CONFIG, "no key"))
    world.turns(supervisor)
    assert world.seen(wanted).state is State.PARKED
    assert world.seen(wanted).news == News()


def test_more_money_wakes_nothing_that_waits_for_something_else(world: World) -> None:
    supervisor, wanted = world.make(), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    world.players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.CONFIG, "no key"))
    world.turns(supervisor)
    world.players.person(wanted.id, BudgetRaised("ann", 1.5))
    world.turns(supervisor)
    view = world.seen(wanted)
    assert (view.state, view.reason, view.raised_usd) == (State.PARKED, Reason.CONFIG, 1.5)
    world.players.person(wanted.id, RetryRequested("ann"))
    world.turns(supervisor)
    assert world.seen(wanted).attempt == 2


def test_a_day_whose_money_is_used_up_is_waited_for_without_anybody(world: World) -> None:
    """Until its limit has room again, or six hours: the limit may have been raised meanwhile."""
    supervisor, wanted = world.make(), ticket(agent="anthropic", limits=TicketLimits(attempts=1))
    world.running(supervisor, wanted)
    for number, (left, waits) in enumerate(((7 * 3600.0, 6 * 3600.0), (3600.0, 3600.0)), 1):
        words = AttemptFailed(FailureClass.PROVIDER_LIMIT, "It goes on tomorrow (UTC).", retry_after=left)
        world.players.attempt_says(wanted.id, number, words)
        world.turns(supervisor)
        view = world.seen(wanted)
        assert (view.state, view.detail) == (State.BACKING_OFF, "It goes on tomorrow (UTC).")
        world.clock.advance(waits - 10.0)
        world.turns(supervisor)
        assert world.seen(wanted).state is State.BACKING_OFF
        world.players.woken.clear()
        world.clock.advance(10.0)
        world.turns(supervisor)
        (effect,) = world.ordered(wanted, EffectKind.START_ATTEMPT)
        assert world.seen(wanted).attempt == number + 1, "the stop is not counted"
        ledger = world.ledgers["attempt"]
        assert ledger.begin("agents", effect, "guard")
        started = AttemptStarted("h", 1, "anthropic", ledger.incarnation())
        world.players.attempt_says(wanted.id, number + 1, started)
        world.turns(supervisor, 2)


def raised(*amounts: float, state: State = State.PARKED) -> TicketView:
    view = TicketView(ticket(agent="anthropic"), state, Reason.BUDGET, since=1.0, version=1)
    for usd in amounts:
        view = fold(view, Envelope("default", view.id, 0, 0, 1.0, BudgetRaised("ann", usd), Source.PEOPLE))
    return view


@pytest.mark.invariant("I8")
@given(st.lists(st.floats(), max_size=6))
def test_no_amount_lowers_a_limit_or_makes_it_endless(amounts: list[float]) -> None:
    before = TicketLimits()
    view = raised(*amounts)
    now = allowance(view, 0.8)
    assert view.raised_usd >= 0 and (now.limits.usd >= before.usd)
    assert view.raised_usd == pytest.approx(sum(usd for usd in amounts if 0 < usd <= MOST_USD))
    assert raised(*amounts, state=State.CANCELLED).raised_usd == 0


@given(st.floats(0.01, 100), st.lists(st.floats(0.01, 100), max_size=5), st.floats(0, 1))
def test_each_answer_gives_room_to_work(usd: float, amounts: list[float], soft: float) -> None:
    """The soft limit lies above everything that could be spent before the last answer, and below the hard one."""
    view = raised(*amounts)
    view = replace(view, ticket=replace(view.ticket, limits=TicketLimits(usd=usd)))
    now = allowance(view, soft)
    assert now.limits.usd == pytest.approx(usd + sum(amounts))
    assert usd + sum(amounts[:-1]) * bool(amounts) - 1e-6 <= now.soft_usd + usd * (not amounts)
    assert now.soft_usd <= now.limits.usd
    assert now.limits.model_calls >= TicketLimits().model_calls and now.limits.tokens >= TicketLimits().tokens
    assert now.limits.attempts == TicketLimits().attempts
    assert allowance(view, 1.0).soft_usd == now.limits.usd


@pytest.mark.parametrize("text", ["2", "$2", " $2.00 ", "0.01", "10000"])
def test_an_amount_is_read(text: str) -> None:
    assert LEAST_USD <= amount(text) <= MOST_USD


@pytest.mark.parametrize("text", ["", "$", "-1", "0", "nan", "inf", "1e9", "2 dollars", "$$2", "2,5", "٢x", "0x2"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no amount"):
        amount(text)


MUTANTS = {
    "a person's word": Mutant("supervisor.decide:_parked", "if news.raised_by and view", "if view"),
    "not counted": Mutant("supervisor.people:afforded", "view.hand_backs + min(1, view.attempt)", "view.hand_backs"),
    "a word in time": Mutant(
        "supervisor.people:carried",
        "changed.reason is Reason.BUDGET",
        "False",
        lambda world: said_in_time(world, "agent"),
    ),
    "the work is handed on": Mutant("supervisor.people:afforded", "repair=view.attempt", "repair=0"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(
    name: str, new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[name].install(monkeypatch)
    with pytest.raises((AssertionError, FleetError, ValueError)):
        (MUTANTS[name].scenario or goes_on)(new_world())
