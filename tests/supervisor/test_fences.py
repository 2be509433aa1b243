"""Fences of the ledger: what a frozen owner, a doubled command, a forged wake-up or a late worker may not do."""

from __future__ import annotations

import pytest

from fleet.adapters import keys
from fleet.core.codec import encode
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import AttemptFailed, AttemptStarted, CancelRequested, Note, Source
from fleet.core.outbox import Outstanding
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.step import Batch, Refused
from fleet.core.ticket import TicketLimits, shard_of
from fleet.core.view import TicketView
from supervisor.policy import Policy
from tests.supervisor.world import World
from tests.support.tickets import ticket


@pytest.mark.invariant("I6")
def test_a_frozen_owner_withdraws_nothing(world: World) -> None:
    frozen, wanted = world.make("frozen"), ticket()
    world.players.accept(wanted)
    world.turns(frozen)
    (effect,) = world.ordered(wanted, EffectKind.START_ATTEMPT)
    admin = world.clients["admin"]
    admin.delete(*admin.keys("fleet:*:owner"), "fleet:members")
    world.turns(world.make("second"), 1)
    shard = shard_of(wanted.id)
    with pytest.raises(Refused, match="EPOCH"):
        frozen._store.step(shard, frozen._keepers[shard].shard.epoch, Batch(withdrawn=[effect.id]))
    assert world.ledgers["people"].outbox(effect.id, wanted.id) is not None


@pytest.mark.invariant("I17")
def test_an_owner_of_a_lost_ledger_writes_nothing_into_the_next(world: World) -> None:
    """Found by the simulation: epochs began at 1 again, and the frozen owner's was the new owner's."""
    wanted = ticket()
    shard = shard_of(wanted.id)
    frozen, second = world.store("frozen"), world.store("second")
    epoch, _ = frozen.lease(shard)
    world.clients["admin"].flushall()
    assert second.lease(shard)[1]
    view = TicketView(wanted, State.QUEUED, Reason.ACCEPTED, 0.0, version=1)
    with pytest.raises(Refused, match="EPOCH"):
        frozen.step(shard, epoch, Batch(views={wanted.id: (0, view)}))
    assert world.ledgers["people"].view(wanted.id) is None


@pytest.mark.invariant("I17")
def test_a_step_that_reaches_the_server_twice_is_written_once(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    keeper = supervisor._keepers[shard_of(wanted.id)]
    late = keeper.tick(world.clock.now(), world.clock.monotonic() + 1000, 0.5)
    assert late.batch.views
    supervisor._store.step(keeper.shard.name, keeper.shard.epoch, late.batch)
    length = len(world.ledgers["people"].log(wanted.id))
    with pytest.raises(Refused, match="VERSION"):
        supervisor._store.step(keeper.shard.name, keeper.shard.epoch, late.batch)
    assert len(world.ledgers["people"].log(wanted.id)) == length


@pytest.mark.invariant("I20")
def test_a_cancelled_ticket_begins_nothing_even_if_an_order_stands(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    world.turns(supervisor)
    (effect,) = world.ordered(wanted, EffectKind.START_ATTEMPT)
    world.players.person(wanted.id, CancelRequested("ada"))
    world.turns(supervisor, 2)
    order = encode(Outstanding(effect, 0.0))
    world.clients["admin"].hset(keys.of(shard_of(wanted.id), "outbox"), effect.id, order.decode())
    assert not world.ledgers["attempt"].claim(wanted.id, 1, "guard")


@pytest.mark.invariant("I3")
def test_nobody_begins_what_was_never_ordered(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    forged = Effect(EffectKind.PUBLISH, wanted.id, 1, 1)
    assert not world.ledgers["attempt"].claim(wanted.id, 2, "guard")
    assert not world.ledgers["publisher"].begin("publisher", forged, "p")


@pytest.mark.invariant("I3")
def test_an_attempt_that_nobody_took_in_time_cannot_be_claimed_later(world: World) -> None:
    supervisor, wanted = world.make(policy=Policy(claim_within=5)), ticket()
    world.players.accept(wanted)
    world.turns(supervisor)
    world.turns(supervisor, 4, seconds=2)
    view = world.seen(wanted)
    assert (view.state, view.hand_backs) == (State.BACKING_OFF, 1)
    assert not world.ledgers["attempt"].claim(wanted.id, 1, "too late")


@pytest.mark.invariant("I14")
def test_an_earlier_attempt_changes_nothing(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    world.turns(supervisor, 40, seconds=1)
    assert world.seen(wanted).attempt == 2
    assert world.ledgers["attempt"].claim(wanted.id, 2, "guard")
    world.players.attempt_says(wanted.id, 2, AttemptStarted("h", 2, wanted.agent, "i"))
    world.turns(supervisor, 2)
    before = world.seen(wanted)
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, AttemptFailed(FailureClass.CONFIG, "late"), 2)
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, Note("late"), 2)
    world.turns(supervisor, 2)
    assert world.seen(wanted) == before


@pytest.mark.invariant("I16")
def test_a_poison_ticket_stops_with_a_reason(world: World) -> None:
    """Every attempt dies without a word: three are enough, however many the ticket may have."""
    supervisor, wanted = world.make(), ticket(limits=TicketLimits(attempts=50))
    world.players.accept(wanted)
    for _ in range(300):
        world.turns(supervisor, 1, seconds=2)
        for effect in world.ordered(wanted, EffectKind.START_ATTEMPT):
            world.ledgers["attempt"].begin("agents", effect, "dies at once")
        world.players.woken.clear()
        if world.seen(wanted).state.terminal or world.seen(wanted).attempt > 3:
            break
    view = world.seen(wanted)
    assert (view.state, view.reason, view.attempt) == (State.ESCALATED, Reason.POISON, 3)
    assert "3 attempts ended the same way" in view.detail


@pytest.mark.invariant("I16")
def test_a_ticket_handed_back_again_and_again_does_not_spin(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    for _ in range(100):
        world.turns(supervisor, 1, seconds=0.6)
        for effect in world.ordered(wanted, EffectKind.START_ATTEMPT):
            if world.ledgers["attempt"].begin("agents", effect, "stops"):
                handed_back = AttemptFailed(FailureClass.HANDED_BACK, "the host stops")
                world.players.attempt_says(wanted.id, effect.attempt, handed_back)
        world.players.woken.clear()
    assert 2 <= world.seen(wanted).attempt <= 4
