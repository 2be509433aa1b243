"""The whole fleet paused: nothing new starts, through take-overs, until a person lets it go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.adapters.redis_client import PermissionDenied
from fleet.core.events import PauseRequested, ResumeRequested
from fleet.core.states import State
from fleet.core.view import Hold
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.players import CHANGE
from tests.support.tickets import ticket


def test_a_held_fleet_starts_nothing_until_it_is_let_go(world: World) -> None:
    first, one, two = world.make("first"), ticket(1), ticket(2)
    world.turns(first, 2)
    world.ledgers["people"].hold(Hold("ann", world.clock.now()))
    world.turns(first, 2)
    world.players.accept(one)
    world.turns(first, 10)
    assert world.seen(one).state is State.QUEUED
    assert "paused by ann" in world.ledgers["people"].why(one.id)
    first.leave()
    second = world.make("second")
    world.players.accept(two)
    world.turns(second, 10)
    assert {world.seen(one).state, world.seen(two).state} == {State.QUEUED}, "a take-over does not forget it"
    world.ledgers["people"].hold(None)
    world.turns(second, 6)
    assert {world.seen(one).state, world.seen(two).state} == {State.STARTING}
    assert world.ledgers["people"].why(one.id) == ""


def test_only_people_may_hold_the_fleet(world: World) -> None:
    for role in ("attempt", "gates", "publisher", "intake", "agents", "gateway"):
        with pytest.raises(PermissionDenied):
            world.ledgers[role].hold(Hold("agent", 1.0))
    assert world.ledgers["people"].held() is None


@pytest.mark.parametrize("gating", [False, True])
def test_a_pause_counts_no_attempt_wherever_it_strikes(world: World, gating: bool) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    if gating:
        world.players.attempt_says(wanted.id, 1, CHANGE)
        world.turns(supervisor, 2)
    world.players.person(wanted.id, PauseRequested("ann"))
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.PARKED
    world.players.person(wanted.id, ResumeRequested("ann"))
    world.turns(supervisor, 4)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.hand_backs, view.failures) == (State.STARTING, 2, 1, ())


MUTANTS = {
    "the desk asks": Mutant("supervisor.service:Supervisor.turn", "self._desk.held = self._store.held()", "pass"),
    "the desk looks again": Mutant(
        "supervisor.desk:Desk.absorb", "not looks_around and self.held == self._held_before", "not looks_around"
    ),
    "the desk holds": Mutant("supervisor.desk:Desk._choice", "self.held is None", "True"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_hold_that_does_not_hold_is_noticed(
    name: str, new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[name].install(monkeypatch)
    with pytest.raises(AssertionError):
        test_a_held_fleet_starts_nothing_until_it_is_let_go(new_world())
