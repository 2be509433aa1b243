"""Two tenants at work, one of them greedy: places and money of the one are not the other's (I22)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.core.errors import FleetError
from fleet.core.frozen import replace
from fleet.core.states import State
from fleet.core.ticket import Ticket, ticket_id
from supervisor.admission import Caps
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket


def of(tenant: str, number: int) -> Ticket:
    made = ticket(number, repo=f"{tenant}/app-{number % 5}")
    return replace(made, id=ticket_id(tenant, made.repo, number, 1), tenant=tenant, accepted_at=float(number))


def live(world: World, tickets: list[Ticket]) -> int:
    return sum(world.seen(one).state in (State.STARTING, State.RUNNING) for one in tickets)


def one_is_greedy(world: World) -> None:
    """Twenty tickets of ``greedy`` come first: they never hold more than its places, and ``modest`` starts at once."""
    supervisor = world.make(caps=Caps(fleet=6, tenant=4, repo=6, open_pull_requests=99, tenants={"greedy": 2}))
    many, few = [of("greedy", number) for number in range(20)], [of("modest", number) for number in range(100, 103)]
    for one in many:
        world.players.accept(one)
    world.turns(supervisor)
    assert live(world, many) == 2
    waits = next(one for one in many if world.seen(one).state is State.QUEUED)
    assert "2 of 2 places of tenant greedy" in world.ledgers["people"].why(waits.id)
    for one in few:
        world.players.accept(one)
    world.turns(supervisor)
    assert (live(world, many), live(world, few)) == (2, 3)
    ended: set[str] = set()
    for _ in range(40):
        world.turns(supervisor, 2)
        world.players.act_all()
        assert live(world, many) <= 2
        ended |= {one.id for one in (*many, *few) if world.seen(one).state is State.IN_REVIEW}
        if len(ended) == len(many) + len(few):
            break
    assert len(ended) == 23, "everybody comes to an end"


@pytest.mark.invariant("I22")
def test_a_greedy_tenant_has_its_own_places_only(world: World) -> None:
    one_is_greedy(world)


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("supervisor.admission:Caps.of", "min(self.tenant, self.tenants.get(tenant, self.tenant))", "99"),
        Mutant("supervisor.admission:Caps.of", "self.tenants.get(tenant, self.tenant)", "self.tenant"),
    ],
    ids=["no cap", "no cap of its own"],
)
def test_a_protection_switched_off_is_noticed(
    mutant: Mutant, new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant.install(monkeypatch)
    with pytest.raises((AssertionError, FleetError)):
        one_is_greedy(new_world())
