"""What ``fleet simulate`` found, each as a scenario on the real ledger (docs/simulation.md tells the stories)."""

from __future__ import annotations

import pytest

from fleet.core.effects import Effect, EffectKind
from fleet.core.events import (
    CancelRequested,
    GatesFinished,
    PauseRequested,
    Published,
    PublishStarted,
    PullRequestClosed,
    ResumeRequested,
    Source,
    Withdrawn,
)
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, shard_of
from supervisor.admission import Caps
from supervisor.service import Supervisor
from tests.supervisor.test_losses import gating, publishing
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket


def paused_while_it_waits(world: World) -> None:
    """A ticket that was paused in the queue gets a place after it was resumed."""
    supervisor = world.make(caps=Caps(fleet=1))
    first, waits = ticket(1), ticket(2)
    world.running(supervisor, first)
    world.players.accept(waits)
    world.turns(supervisor)
    world.players.person(waits.id, PauseRequested("ada"))
    world.turns(supervisor)
    assert world.seen(waits).state is State.PARKED
    world.players.person(waits.id, ResumeRequested("ada"))
    world.turns(supervisor)
    assert world.seen(waits).state is State.QUEUED
    assert world.ledgers["people"].why(waits.id)


def a_shard_is_lost_for_a_moment(world: World) -> None:
    """Whoever owns the shard again still notices that a worker died, even one that it had seen begin."""
    supervisor, wanted = world.make(), ticket()
    gating(world, supervisor, wanted)
    world.turns(supervisor, 6)
    world.clients["admin"].delete(f"fleet:{{{shard_of(wanted.id)}}}:owner")
    world.turns(supervisor, 6)
    world.turns(supervisor, 60)
    assert world.seen(wanted).reason is Reason.LOST


def in_review(world: World, supervisor: Supervisor, wanted: Ticket) -> None:
    publishing(world, supervisor, wanted)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Published(7, "url", "h" * 40, "b" * 40))
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.IN_REVIEW


def a_publisher_wakes_up_too_late(world: World) -> None:
    """It looked before the other publisher's pull request was opened, and opens its own after that one was closed."""
    supervisor, wanted = world.make(), ticket()
    in_review(world, supervisor, wanted)
    world.players.say("intake", Source.INTAKE, wanted.id, 0, PullRequestClosed(merged=False))
    world.turns(supervisor, 2)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Published(9, "url", "h" * 40, "b" * 40))
    world.turns(supervisor, 2)
    (closing,) = world.ordered(wanted, EffectKind.WITHDRAW)
    assert closing.turn == 9
    view = world.seen(wanted)
    assert view.state is State.CLOSED and view.pull_request is not None and view.pull_request.number == 7


def its_publisher_died_before_it_could_tell(world: World) -> None:
    """The pull request that a status order finds at the forge belongs to the ticket, even a rejected one."""
    supervisor, wanted = world.make(), ticket()
    gating(world, supervisor, wanted)
    world.players.say("gates", Source.GATES, wanted.id, 1, GatesFinished(1, "h" * 40, "b" * 40, False, "red"))
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.REJECTED
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Published(7, "url", "h" * 40, "b" * 40))
    world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert view.state is State.REJECTED and view.pull_request is not None


def looked_for_again(world: World, supervisor: Supervisor, wanted: Ticket) -> None:
    """Each look finds nothing, until the last one is done."""
    (first,) = world.ordered(wanted, EffectKind.WITHDRAW)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(0, first.round))
    for seconds in (60.0, 600.0, 3600.0):
        world.clock.advance(seconds)
        world.turns(supervisor, 6)
        looks = {effect.id: effect for effect in world.ordered(wanted, EffectKind.WITHDRAW)}
        last = list(looks.values())[-1]
        assert last.round > first.round
        first = last
        world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(0, last.round))
    world.turns(supervisor, 6)
    assert len(looks) == 4
    people = world.ledgers["people"]
    assert all(people.outbox(one, wanted.id) is None for one in looks)


def its_publisher_slept_through_the_cancel(world: World) -> None:
    """It goes on after the look that found nothing, opens the pull request and dies: so there are later looks."""
    supervisor, wanted = world.make(), ticket()
    publishing(world, supervisor, wanted)
    world.players.person(wanted.id, CancelRequested("ada"))
    world.turns(supervisor, 12)
    looked_for_again(world, supervisor, wanted)


def closed_after_a_lost_publisher(world: World, supervisor: Supervisor, wanted: Ticket) -> None:
    """The second publisher's pull request was opened, and a person closed it; the first one may still go on."""
    publishing(world, supervisor, wanted)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, PublishStarted(1, "h" * 40))
    world.turns(supervisor, 70)
    assert world.seen(wanted).reason is Reason.LOST
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Published(7, "url", "h" * 40, "b" * 40))
    world.turns(supervisor, 2)
    world.players.say("intake", Source.INTAKE, wanted.id, 0, PullRequestClosed(merged=False))
    world.turns(supervisor, 12)
    assert world.seen(wanted).state is State.CLOSED


def a_late_publisher_dies(world: World) -> None:
    """It opened a second pull request after the first was closed, and nobody told of it: so it is looked for."""
    supervisor, wanted = world.make(), ticket()
    closed_after_a_lost_publisher(world, supervisor, wanted)
    looked_for_again(world, supervisor, wanted)


def a_late_publisher_tells(world: World) -> None:
    """Then the looks have nothing left to find, and end."""
    supervisor, wanted = world.make(), ticket()
    closed_after_a_lost_publisher(world, supervisor, wanted)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Published(9, "url", "h" * 40, "b" * 40))
    world.turns(supervisor, 2)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(9, 0))
    world.turns(supervisor, 2)
    people = world.ledgers["people"]
    looks = [Effect(EffectKind.WITHDRAW, wanted.id, 1, number, 0).id for number in range(4)]
    assert all(people.outbox(one, wanted.id) is None for one in looks)


FOUND = {
    "I1, paused": (
        paused_while_it_waits,
        Mutant("supervisor.fold:_moved", "moved = replace(moved, asked=0)", "pass"),
    ),
    "I1, watched": (
        a_shard_is_lost_for_a_moment,
        Mutant("supervisor.service:Supervisor._take", "self._post.take(standing, ", "("),
    ),
    "I4": (
        a_publisher_wakes_up_too_late,
        Mutant("supervisor.hearing:stale", "if view.state in HAS_PULL and", "if False and"),
    ),
    "I4, untold": (
        a_late_publisher_dies,
        Mutant("supervisor.decide:_in_review", "and view.lost_publishers", "and False"),
    ),
    "I4, told": (a_late_publisher_tells, Mutant("supervisor.shard:ShardKeeper._closed", "told.number or", "")),
    "I20": (
        its_publisher_slept_through_the_cancel,
        Mutant("supervisor.shard:ShardKeeper._closed", "effect.round == told.round", "True"),
    ),
    "I6": (
        its_publisher_died_before_it_could_tell,
        Mutant("supervisor.hearing:stale", "if view.state in _KEEPS_LATE_PULL:", "if False:"),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name: str, world: World) -> None:
    FOUND[name][0](world)


@pytest.mark.parametrize("name", FOUND)
def test_without_the_mend_it_is_noticed(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, mutant = FOUND[name]
    mutant.install(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        scenario(world)
