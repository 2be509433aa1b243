"""When an issue says something new: at acceptance, at each stop, as money is spent, and not too often."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.core.budget import Cost
from fleet.core.effects import EffectKind
from fleet.core.events import (
    BudgetRaised,
    CancelRequested,
    Note,
    PauseRequested,
    ResumeRequested,
    TurnFinished,
)
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from supervisor.policy import Policy
from supervisor.telling import Spacing, spent_more
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket


def view(usd: float, agent: str = "anthropic") -> TicketView:
    return TicketView(ticket(agent=agent), State.RUNNING, Reason.CLAIMED, 0.0, attempt=1, cost=Cost(usd=usd))


def test_two_edits_are_kept_apart_and_the_later_one_takes_the_place_of_a_waiting_one() -> None:
    spacing, one = Spacing(), view(0)
    assert spacing.due(one, 10.0, 100.0) == 100.0
    assert spacing.due(one, 10.0, 101.0) == 110.0
    assert spacing.due(one, 10.0, 105.0) == 110.0
    assert spacing.due(one, 10.0, 112.0) == 120.0
    assert spacing.due(one, 10.0, 900.0) == 900.0
    assert spacing.due(one, 10.0, 50.0) == 60.0, "the wall clock jumped back"
    assert spacing.due(replace(one, state=State.MERGED), 10.0, 70.0) == 70.0


@pytest.mark.parametrize(
    ("before", "after", "told"), [(0.0, 0.49, False), (0.49, 0.5, True), (0.6, 0.9, False), (0.9, 1.6, True)]
)
def test_a_quarter_of_the_limit_is_news(before: float, after: float, told: bool) -> None:
    assert spent_more(view(before), view(after)) == told
    assert not spent_more(view(before, "command:true"), view(after, "command:true"))


def spending_is_told(world: World) -> None:
    supervisor, wanted = world.make(policy=Policy(status_every=10.0)), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    world.turns(supervisor, 25)
    world.players.woken.clear()
    world.players.attempt_says(wanted.id, 1, TurnFinished(1, Cost(usd=0.2)))
    world.turns(supervisor, 20)
    shown = {effect.round for effect in world.ordered(wanted, EffectKind.STATUS)}
    world.players.attempt_says(wanted.id, 1, TurnFinished(2, Cost(usd=0.5)), Note("on"))
    world.turns(supervisor, 20)
    again = {effect.round for effect in world.ordered(wanted, EffectKind.STATUS)}
    assert len(again - shown) == 1 and max(again) > max(shown, default=0)


@pytest.mark.invariant("I8")
def test_the_sealed_spend_is_renewed_before_it_is_passed(world: World) -> None:
    spending_is_told(world)


def test_spending_that_nobody_tells_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("supervisor.telling:spent_more", "before is None or", "True or").install(monkeypatch)
    with pytest.raises(AssertionError):
        spending_is_told(world)


def a_word_is_shown_at_once(world: World) -> None:
    """A person waits for it; and money that was allowed must not be asked for again by the next ledger."""
    supervisor, wanted = world.make(policy=Policy(status_every=600.0)), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    world.turns(supervisor, 4)
    for word in (BudgetRaised("ann", 3.0), PauseRequested("ann"), ResumeRequested("ann"), CancelRequested("ann")):
        world.players.woken.clear()
        world.players.person(wanted.id, word)
        world.turns(supervisor, 3)
        shown = [effect.round for effect in world.ordered(wanted, EffectKind.STATUS)]
        assert shown, f"{word} is not shown yet"


@pytest.mark.invariant("I1")
def test_a_person_s_word_is_shown_at_once(world: World) -> None:
    a_word_is_shown_at_once(world)


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("supervisor.telling:raised", "before is not None and", "False and"),
        Mutant("supervisor.telling:at_once", "event.reason in _AT_ONCE", "False"),
    ],
    ids=["money", "the rest"],
)
def test_a_word_that_waits_is_noticed(world: World, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError, match="is not shown yet"):
        a_word_is_shown_at_once(world)
