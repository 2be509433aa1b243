"""A revoke on Flower's task page is a cancel: of the task that is at work, and of no other."""

from __future__ import annotations

import pytest

from fleet.adapters.acl import Role
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import Published, Source
from fleet.core.states import Reason, State
from fleet.local import revoke
from fleet.local.revoke import canceller
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.tickets import ticket

STAGES = {"starting": EffectKind.START_ATTEMPT, "gating": EffectKind.RUN_GATES, "publishing": EffectKind.PUBLISH}


def brought_to(world: World, supervisor: Supervisor, stage: str) -> Effect:
    """A fresh ticket at the stage, its order woken and not begun."""
    wanted = ticket()
    world.players.accept(wanted)
    world.turns(supervisor)
    while world.seen(wanted).state.value != stage:
        world.players.act_all()
        world.turns(supervisor)
    (effect,) = {one.id: one for one in world.ordered(wanted, STAGES[stage])}.values()
    return effect


@pytest.mark.invariant("I20")
@pytest.mark.parametrize("stage", STAGES)
def test_a_revoke_before_the_effect_begins_stops_it(world: World, stage: str) -> None:
    supervisor = world.make()
    effect = brought_to(world, supervisor, stage)
    canceller(world.ledger(Role.PEOPLE), world.clock)(effect.id)
    world.turns(supervisor)
    view = world.ledgers["people"].view(effect.ticket)
    assert view is not None
    assert (view.state, view.reason) == (State.CANCELLED, Reason.CANCELLED_BY_PERSON)
    assert "flower" in view.detail
    assert not world.players.act(effect), "nothing that was not begun may begin now"


@pytest.mark.invariant("I20")
def test_a_revoke_of_a_running_attempt_tells_it_to_stop(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    effect = world.running(supervisor, wanted)
    canceller(world.ledger(Role.PEOPLE), world.clock)(effect.id)
    world.turns(supervisor)
    assert world.seen(wanted).state is State.CANCELLED
    assert world.ledgers["attempt"].commands(wanted.id, effect.attempt, "0", 1)


@pytest.mark.invariant("I20")
def test_a_publication_that_had_begun_is_withdrawn(world: World) -> None:
    supervisor = world.make()
    effect = brought_to(world, supervisor, "publishing")
    assert world.ledgers["publisher"].begin("publisher", effect, "p")
    canceller(world.ledger(Role.PEOPLE), world.clock)(effect.id)
    world.turns(supervisor)
    late = Published(7, "url", "h" * 40, "b" * 40)
    world.players.say("publisher", Source.PUBLISHER, effect.ticket, effect.attempt, late)
    world.turns(supervisor)
    view = world.ledgers["people"].view(effect.ticket)
    assert view is not None and view.state is State.CANCELLED
    assert [one.kind for one in world.players.woken if one.kind is EffectKind.WITHDRAW]


@pytest.mark.invariant("I20")
@pytest.mark.parametrize("task_id", ["{t}:start:1:0:0", "{t}:status:1:1:0", "{t}", "other-1-aaaa:start:1:0:0", "::::"])
def test_the_task_of_work_that_is_over_changes_nothing(world: World, task_id: str) -> None:
    supervisor = world.make()
    effect = brought_to(world, supervisor, "publishing")
    canceller(world.ledger(Role.PEOPLE), world.clock)(task_id.format(t=effect.ticket))
    world.turns(supervisor)
    view = world.ledgers["people"].view(effect.ticket)
    assert view is not None and view.state is State.PUBLISHING


def test_mutant_a_listener_that_takes_every_task_for_current_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoke, "current", lambda *_: True)
    with pytest.raises(AssertionError):
        test_the_task_of_work_that_is_over_changes_nothing(world, "{t}:start:1:0:0")


def test_mutant_a_listener_that_hears_nothing_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoke, "current", lambda *_: False)
    with pytest.raises(AssertionError):
        test_a_revoke_before_the_effect_begins_stops_it(world, "gating")
