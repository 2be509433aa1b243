"""The ladder's first and last step: a sign asked of the guard, and an end that it confirms."""

from __future__ import annotations

import pytest

from fleet.core.codec import decode
from fleet.core.commands import Command, CommandKind
from fleet.core.effects import EffectKind
from fleet.core.events import AttemptFailed, AttemptStopped, CommandSeen, Heartbeat, ModelAsked, Nudged, Rung
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from supervisor.fold import fold_all
from supervisor.service import Supervisor
from tests.supervisor.test_stall import POLICY, SIGN, at_work, commands, rungs, says, wait
from tests.supervisor.world import World

HANDED_BACK = AttemptFailed(FailureClass.HANDED_BACK, "given back")


def being_stopped(world: World) -> tuple[Supervisor, Ticket]:
    """A silent agent that was interrupted in vain and is now told to end."""
    supervisor, wanted = at_work(world)
    wait(world, supervisor, wanted, 21.0)
    says(world, supervisor, wanted, SIGN)
    wait(world, supervisor, wanted, 11.0)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.INTERRUPT, Rung.STOP]
    return supervisor, wanted


def followed(world: World, wanted: Ticket) -> bool:
    """Whether a second attempt was dispatched, or is about to be."""
    view = world.seen(wanted)
    return view.state is not State.RUNNING or len(world.ordered(wanted, EffectKind.START_ATTEMPT)) > 0


def told(world: World, wanted: Ticket) -> list[CommandKind]:
    return [decode(raw, Command).kind for _, raw in commands(world, wanted)]


@pytest.mark.invariant("I15")
def test_a_guard_that_answers_does_not_speak_for_its_agent(world: World) -> None:
    supervisor, wanted = at_work(world)
    wait(world, supervisor, wanted, 21.0)
    says(world, supervisor, wanted, CommandSeen("x", "probe"), SIGN)
    wait(world, supervisor, wanted, 11.0)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.INTERRUPT, Rung.STOP]
    assert told(world, wanted) == [CommandKind.PROBE, CommandKind.INTERRUPT, CommandKind.CHECKPOINT]


@pytest.mark.invariant("I15")
def test_a_guard_that_does_not_answer_holds_up_nothing(world: World) -> None:
    supervisor, wanted = at_work(world)
    wait(world, supervisor, wanted, 21.0)
    assert rungs(world, wanted) == [Rung.PROBE]
    wait(world, supervisor, wanted, 4.0)
    assert rungs(world, wanted) == [Rung.PROBE]
    wait(world, supervisor, wanted, 2.0)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.INTERRUPT]


def test_a_word_of_the_agent_ends_the_probe(world: World) -> None:
    supervisor, wanted = at_work(world)
    wait(world, supervisor, wanted, 21.0)
    says(world, supervisor, wanted, ModelAsked("m"), SIGN)
    wait(world, supervisor, wanted, 11.0)
    assert rungs(world, wanted) == [Rung.PROBE]


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I15")
def test_nobody_follows_before_the_guard_saw_everything_dead(world: World) -> None:
    supervisor, wanted = being_stopped(world)
    wait(world, supervisor, wanted, 5.0)
    says(world, supervisor, wanted, HANDED_BACK)
    wait(world, supervisor, wanted, 5.0)
    assert not followed(world, wanted)
    says(world, supervisor, wanted, AttemptStopped("handed back", left=2))
    wait(world, supervisor, wanted, 2.0)
    assert not followed(world, wanted)
    says(world, supervisor, wanted, AttemptStopped("handed back", left=0))
    world.turns(supervisor)
    assert [effect.attempt for effect in world.ordered(wanted, EffectKind.START_ATTEMPT)] == [2]
    view = world.seen(wanted)
    assert (view.failed(Reason.STALLED.value), view.hand_backs) == (1, 0)
    assert "stalled (silence)" in view.digest
    assert "the loop is waiting; 3 processes" in view.digest
    assert "not confirmed" not in view.digest
    assert fold_all([event for _, event in world.ledgers["people"].log(wanted.id)]) == view


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I15")
def test_a_guard_that_never_confirms_is_fenced(world: World) -> None:
    """Its heart beats, and it says no more: after a while its number is enough."""
    supervisor, wanted = being_stopped(world)
    wait(world, supervisor, wanted, POLICY.stop_within - 1.0)
    assert not followed(world, wanted)
    for _ in range(6):
        world.players.attempt_says(wanted.id, 1, Heartbeat(world.seen(wanted).seq))
        world.turns(supervisor, 1, 1.0)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.failed(Reason.STALLED.value)) == (State.STARTING, 2, 1)
    assert "was not confirmed within 30 s" in view.digest
    assert told(world, wanted)[-1] is CommandKind.CANCEL
    before = world.seen(wanted)
    says(world, supervisor, wanted, AttemptStopped("handed back", left=0))
    assert world.seen(wanted) == before


def test_a_new_owner_waits_for_the_end_anew(world: World) -> None:
    """It cannot know for how long the guard was waited for."""
    supervisor, wanted = being_stopped(world)
    wait(world, supervisor, wanted, 20.0)
    supervisor.leave()
    other = world.make("two", policy=POLICY)
    other.turn(0)
    wait(world, other, wanted, 20.0)
    assert not followed(world, wanted)
    wait(world, other, wanted, 12.0)
    assert world.seen(wanted).failed(Reason.STALLED.value) == 1


def test_each_step_is_an_event_with_its_reason(world: World) -> None:
    _, wanted = being_stopped(world)
    log = [event.data for _, event in world.ledgers["people"].log(wanted.id)]
    steps = [data for data in log if isinstance(data, Nudged)]
    assert {step.cause for step in steps} == {"silence"}
    assert [bool(step.text) for step in steps] == [False, True, True]
    assert all(step.seconds >= POLICY.silence for step in steps)
