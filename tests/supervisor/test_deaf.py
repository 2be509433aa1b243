"""Silence is what was not said, never what could not be heard (I15)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet.core.events import AttemptFailed, Heartbeat
from fleet.core.retry import FailureClass
from fleet.core.states import State
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

DAY = 86_400.0


def once_late(world: World, call: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """``call``, whose first answer takes ``seconds``; it is the one that was ready before the pause."""
    left = [seconds]

    def late(*args: Any) -> Any:
        answer = call(*args)
        world.clock.advance(left.pop() if left else 0.0)
        return answer

    return late


def a_paused_store(world: World, supervisor: Supervisor) -> None:
    """The store is stopped while it is asked, and goes on before the socket gives up."""
    store = supervisor._store
    store.read = once_late(world, store.read, 29.5)  # type: ignore[method-assign]


def a_frozen_supervisor(world: World, supervisor: Supervisor) -> None:
    """The process stands still in the middle of a pass, for longer than its leases hold."""
    store = supervisor._store
    store.steps = once_late(world, store.steps, 120.0)  # type: ignore[method-assign]


@pytest.mark.invariant("I15")
@pytest.mark.parametrize("deaf", [a_paused_store, a_frozen_supervisor])
def test_time_in_which_nobody_could_be_heard_restarts_nobody(
    world: World, deaf: Callable[[World, Supervisor], None]
) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    world.turns(supervisor, 4, seconds=1)
    deaf(world, supervisor)
    world.turns(supervisor, 4, seconds=1)
    assert (world.seen(wanted).state, world.seen(wanted).attempt) == (State.RUNNING, 1)
    # The heart beats on for as long as that.
    for _ in range(10):
        world.players.attempt_says(wanted.id, 1, Heartbeat(1))
        world.turns(supervisor, 5, seconds=1)
    assert world.seen(wanted).attempt == 1
    # What is silence after it, is silence: to the second.
    world.turns(supervisor, 25, seconds=1)
    assert world.seen(wanted).attempt == 1
    world.turns(supervisor, 3, seconds=1)
    assert world.seen(wanted).failed("lost") == 1


@pytest.mark.invariant("I15")
@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_of_the_wall_clock_makes_nobody_dead_and_nobody_immortal(world: World, jump: float) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    world.clock.jump(jump)
    world.turns(supervisor, 28, seconds=1)
    assert (world.seen(wanted).state, world.seen(wanted).attempt) == (State.RUNNING, 1)
    world.turns(supervisor, 5, seconds=1)
    assert world.seen(wanted).failed("lost") == 1


@pytest.mark.invariant("I15")
@pytest.mark.invariant("I16")
@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_pause_lasts_as_long_as_it_was_meant_to_whatever_the_wall_clock_does(world: World, jump: float) -> None:
    supervisor, wanted = world.make(), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    world.players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.AGENT_ERROR, "no idea"))
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.BACKING_OFF
    world.clock.jump(jump)
    world.turns(supervisor, 20, seconds=1)
    assert world.seen(wanted).state is State.BACKING_OFF
    world.turns(supervisor, 6, seconds=1)
    assert world.seen(wanted).attempt == 2


MUTANTS = {
    "deafness is silence, reading": Mutant(
        "supervisor.service:Supervisor._forgive",
        "deaf > DEAF_AFTER",
        "False",
        test_time_in_which_nobody_could_be_heard_restarts_nobody,
        (a_paused_store,),
    ),
    "deafness is silence, writing": Mutant(
        "supervisor.service:Supervisor.turn",
        "self._forgive(done - mono, done)",
        "pass",
        test_time_in_which_nobody_could_be_heard_restarts_nobody,
        (a_frozen_supervisor,),
    ),
    "silence by the wall clock": Mutant(
        "supervisor.service:Supervisor.turn",
        "wall, mono = self._clock.now(), self._clock.monotonic()",
        "wall, mono = self._clock.now(), self._clock.now() - 1_700_000_000",
        test_a_jump_of_the_wall_clock_makes_nobody_dead_and_nobody_immortal,
        (DAY,),
    ),
    "pauses by the wall clock": Mutant(
        "supervisor.liveness:Clocks.waited",
        "known[1] <= mono",
        "until <= wall",
        test_a_pause_lasts_as_long_as_it_was_meant_to_whatever_the_wall_clock_does,
        (-DAY,),
    ),
    "pauses cut short by the wall clock": Mutant(
        "supervisor.liveness:Clocks.waited",
        "known[1] <= mono",
        "until <= wall",
        test_a_pause_lasts_as_long_as_it_was_meant_to_whatever_the_wall_clock_does,
        (DAY,),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_clock_that_counts_what_it_must_not_is_noticed(
    name: str, new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError):
        mutant.scenario(new_world(), *mutant.arguments)
