"""An order in a comment moves its ticket once, and its issue gets an answer."""

from __future__ import annotations

import pytest

from fleet.core.effects import EffectKind
from fleet.core.errors import FleetError
from fleet.core.events import CommentHeard, Verb
from fleet.core.states import Reason, State
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

PAUSE = CommentHeard(7, "bob", Verb.PAUSE, True, "it pauses")


def heard_once(world: World) -> None:
    supervisor, wanted = world.make(), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    world.players.person(wanted.id, PAUSE)
    world.turns(supervisor)
    view = world.seen(wanted)
    assert (view.state, view.reason, view.heard) == (State.PARKED, Reason.PAUSED, 7)
    assert view.answers == ("@bob /fleet pause: it pauses",)
    assert world.ordered(wanted, EffectKind.STATUS), "people read that they were heard"
    world.players.person(wanted.id, CommentHeard(8, "ann", Verb.RESUME, True, "it goes on"))
    world.turns(supervisor)
    assert world.seen(wanted).state in (State.QUEUED, State.STARTING)
    # Redelivered, and out of order: what was heard is heard.
    for _ in range(3):
        world.players.person(wanted.id, PAUSE)
    world.turns(supervisor)
    view = world.seen(wanted)
    assert view.state is State.STARTING and view.heard == 8 and len(view.answers) == 2


@pytest.mark.invariant("I2")
def test_a_comment_is_heard_once(world: World) -> None:
    heard_once(world)


def test_what_is_only_answered_changes_nothing_but_the_answer(world: World) -> None:
    supervisor, wanted = world.make(), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    before = world.seen(wanted)
    for number, verb in enumerate(Verb, 1):
        world.players.person(wanted.id, CommentHeard(number, "bob", verb, False, f"answer {number}"))
        world.players.woken.clear()
        world.turns(supervisor, 2)
        (told,) = {effect.id for effect in world.ordered(wanted, EffectKind.STATUS)}
        assert told
    after = world.seen(wanted)
    assert (after.state, after.cancel, after.steers, after.raised_usd) == (before.state, "", (), 0.0)
    assert after.answers[-1].endswith(f"answer {len(Verb)}") and len(after.answers) == 5


def test_a_protection_switched_off_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("supervisor.comments:meant", "said.comment <= view.heard or", "").install(monkeypatch)
    with pytest.raises((AssertionError, FleetError)):
        heard_once(world)
