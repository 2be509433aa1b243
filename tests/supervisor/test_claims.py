"""A hundred rounds of doubled wake-ups: two workers reach for the same attempt at the same moment (I3)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.adapters.acl import Role
from fleet.core.effects import EffectKind
from supervisor.admission import Caps
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

ROUNDS = 100


def claims_are_single(world: World, rounds: int) -> None:
    supervisor = world.make(caps=Caps(rounds, rounds, rounds, rounds))
    for number in range(rounds):
        world.players.accept(ticket(number + 1))
    world.turns(supervisor, 6)
    orders = [effect for effect in world.players.woken if effect.kind is EffectKind.START_ATTEMPT]
    assert len(orders) == rounds
    together = threading.Barrier(2)

    def worker(name: str) -> list[bool]:
        ledger, got = world.ledger(Role.ATTEMPT), list[bool]()
        for effect in orders:
            together.wait(30)
            got.append(ledger.claim(effect.ticket, effect.attempt, name))
        return got

    with ThreadPoolExecutor(2) as both:
        one, two = both.map(worker, ("guard-1", "guard-2"))
    doubled = sum(a and b for a, b in zip(one, two, strict=True))
    lost = sum(not a and not b for a, b in zip(one, two, strict=True))
    print(f"rounds {rounds}, claims {sum(one)} + {sum(two)}, doubled {doubled}, lost {lost}")
    assert sum(one) and sum(two), "one worker was always first: nothing was raced for"
    assert (doubled, lost) == (0, 0)


@pytest.mark.invariant("I3")
def test_a_hundred_doubled_wake_ups_are_a_hundred_claims(world: World) -> None:
    claims_are_single(world, ROUNDS)


@pytest.mark.invariant("I3")
@pytest.mark.parametrize(
    "old",
    ["if owner then return owner == ARGV[3] and 1 or 0 end", "local owner = redis.call('HGET', KEYS[1], ARGV[1])"],
)
def test_a_claim_that_may_be_used_twice_is_noticed(
    new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    Mutant("lua:begin", old, "local owner = nil" if old.startswith("local") else "").install(monkeypatch)
    with pytest.raises(AssertionError):
        claims_are_single(new_world(), 20)
