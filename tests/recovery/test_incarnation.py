"""Attempts and supervisors of a ledger that was lost: they are refused by the new one, and stop by themselves."""

from __future__ import annotations

import pytest

from fleet.adapters import keys
from fleet.adapters.ledger import RedisAttemptChannel, RedisLedger
from fleet.adapters.redis_client import FleetRedis
from fleet.core.effects import EffectKind
from fleet.core.errors import TemporaryError
from fleet.core.events import AttemptStarted, Envelope, Note, Source
from fleet.core.states import State
from tests.supervisor.conftest import accounts, new_world, server, world
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from workers.outcome import unwanted

__all__ = ["accounts", "new_world", "server", "world"]


def renamed(world: World) -> FleetRedis:
    """The ledger is another one now; its contents happen to be alike, down to the number of the attempt."""
    admin = world.clients["admin"]
    admin.hset(keys.META, "incarnation", "incarnation-2")
    return admin


def a_stale_attempt(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    world.turns(supervisor)
    (effect,) = {effect.id: effect for effect in world.ordered(wanted, EffectKind.START_ATTEMPT)}.values()
    ledger = world.ledgers["attempt"]
    channel = RedisAttemptChannel(ledger, ledger.incarnation())
    admin = renamed(world)
    assert not channel.claim(wanted.id, effect.attempt, "guard"), "its claim is refused"
    assert unwanted(channel.view(wanted.id), effect.attempt), "so it stops by itself"
    said = Envelope("default", wanted.id, 1, 1, 0.0, Note("I live"), Source.ATTEMPTS)
    channel.send([said])
    assert admin.xlen(keys.inbound(wanted.id, Source.ATTEMPTS)) == 0, "what it hands over is not heard"
    fresh = RedisAttemptChannel(ledger, ledger.incarnation())
    assert fresh.claim(wanted.id, effect.attempt, "another guard"), "one of the new ledger is"


@pytest.mark.invariant("I3")
def test_an_attempt_of_another_ledger_is_refused(world: World) -> None:
    a_stale_attempt(world)


def test_a_channel_that_takes_any_ledger_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    same = "self._ledger.incarnation() == self._incarnation"
    Mutant("fleet.adapters.ledger:RedisAttemptChannel._same", same, "True").install(monkeypatch)
    with pytest.raises(AssertionError):
        a_stale_attempt(world)


def test_while_the_new_ledger_has_no_name_an_attempt_waits(world: World) -> None:
    ledger = RedisLedger(world.clients["attempt"])
    world.store()
    channel = RedisAttemptChannel(ledger, ledger.incarnation())
    world.clients["admin"].flushall()
    with pytest.raises(TemporaryError):
        channel.view(ticket().id)
    with pytest.raises(TemporaryError):
        channel.send([])


@pytest.mark.invariant("I1")
def test_supervisors_drop_what_they_knew_of_a_lost_ledger_and_agree_on_the_new_name(world: World) -> None:
    first, second, wanted = world.make("first"), world.make("second"), ticket()
    world.running(first, wanted)
    world.turns(second, 4, seconds=1.1)
    world.clients["admin"].flushall()
    for _ in range(6):
        world.clock.advance(1.1)
        first.once(0)
        second.once(0)
    assert list(first.views()) == list(second.views()) == []
    assert len(first.owned | second.owned) == 17 and not first.owned & second.owned
    names = {first._store.incarnation, second._store.incarnation, world.ledgers["people"].incarnation()}
    assert len(names) == 1 and names != {"incarnation-1"}
    assert world.ledgers["people"].view(wanted.id) is None
    world.players.accept(wanted)
    for _ in range(6):
        world.clock.advance(0.6)
        first.once(0)
        second.once(0)
    assert world.seen(wanted).state is State.STARTING
    lost = AttemptStarted("h", 1, "a", "incarnation-1")
    assert lost.incarnation not in names
