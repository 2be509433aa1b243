"""The cap of open pull requests holds for what is on its way, too: a burst of tickets opens no more than it allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fleet.core.effects import EffectKind
from fleet.core.errors import FleetError
from fleet.core.events import GatesFinished, PullRequestClosed, Source
from fleet.core.states import State
from fleet.core.ticket import Ticket
from supervisor.admission import Caps, Choice, Request, choose
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

CAPS = Caps(fleet=9, tenant=9, repo=2, open_pull_requests=3)


def standing(world: World, tickets: list[Ticket], *states: State) -> list[Ticket]:
    return [one for one in tickets if world.seen(one).state in states]


def act(world: World, kind: EffectKind) -> None:
    """Only workers of one kind do something: the others are slow."""
    mine = [effect for effect in world.players.woken if effect.kind is kind]
    world.players.woken = [effect for effect in world.players.woken if effect.kind is not kind]
    for effect in mine:
        world.players.act(effect)


def burst(world: World) -> None:
    """Eight tickets at once, quick agents, slow gates and a slow publisher."""
    supervisor, tickets = world.make(caps=CAPS), [ticket(number) for number in range(1, 9)]
    for one in tickets:
        world.players.accept(one)
    for kind in (EffectKind.START_ATTEMPT, EffectKind.RUN_GATES, EffectKind.PUBLISH):
        for _ in range(6):
            world.turns(supervisor, 3)
            act(world, kind)
            on = standing(
                world, tickets, State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING, State.IN_REVIEW
            )
            assert len(on) <= 3
    assert len(standing(world, tickets, State.IN_REVIEW)) == 3
    waits = standing(world, tickets, State.QUEUED)
    assert len(waits) == 5 and "merge or close one" in world.ledgers["people"].why(waits[0].id)
    (first, *_) = standing(world, tickets, State.IN_REVIEW)
    world.players.say("intake", Source.INTAKE, first.id, 0, PullRequestClosed(True, "ada"))
    world.turns(supervisor, 4)
    assert len(standing(world, tickets, State.STARTING)) == 1, "the next one begins at once"


def test_a_burst_opens_no_more_than_the_cap(world: World) -> None:
    burst(world)


def refused(world: World) -> None:
    """What the gates refuse opens nothing: the next one begins, and not first when admission looks around."""
    supervisor, tickets = world.make(caps=Caps(9, 9, 9, open_pull_requests=1)), [ticket(1), ticket(2)]
    for one in tickets:
        world.players.accept(one)
    world.turns(supervisor, 3)
    act(world, EffectKind.START_ATTEMPT)
    world.turns(supervisor, 3)
    (first,), (second,) = standing(world, tickets, State.GATING), standing(world, tickets, State.QUEUED)
    red = GatesFinished(1, "h" * 40, "b" * 40, False, "1 failed")
    world.players.say("gates", Source.GATES, first.id, 1, red)
    world.turns(supervisor, 4)
    assert (world.seen(first).state, world.seen(second).state) == (State.REJECTED, State.STARTING)


def test_a_change_that_the_gates_refuse_holds_nobody_up(world: World) -> None:
    refused(world)


def looked_around(world: World) -> None:
    """Admission lost its table, or never heard: it finds the pull requests in the views."""
    supervisor, tickets = world.make(caps=Caps(9, 9, 9, open_pull_requests=1)), [ticket(1), ticket(2)]
    world.players.accept(tickets[0])
    world.until_quiet(supervisor)
    assert world.seen(tickets[0]).state is State.IN_REVIEW
    world.clients["admin"].delete("fleet:{adm}:prs")
    supervisor.leave()
    supervisor = world.make("two", caps=Caps(9, 9, 9, open_pull_requests=1))
    world.turns(supervisor, 2)
    world.players.accept(tickets[1])
    world.turns(supervisor, 4)
    assert world.seen(tickets[1]).state is State.QUEUED


def test_an_open_pull_request_that_admission_forgot_is_found_again(world: World) -> None:
    looked_around(world)


def test_a_pass_in_which_nothing_changed_does_not_choose_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands may wait; only who asks, gives back or pauses is a reason to go through all of them."""
    chosen: list[int] = []

    def counting(waiting: Mapping[str, Request], *more: Any) -> Choice:
        chosen.append(len(waiting))
        return choose(waiting, *more)

    monkeypatch.setattr("supervisor.desk.choose", counting)
    supervisor = world.make(caps=Caps(fleet=1, tenant=1, repo=1, open_pull_requests=9))
    for number in range(1, 5):
        world.players.accept(ticket(number))
    world.turns(supervisor, 6)
    before = len(chosen)
    world.turns(supervisor, 10)
    assert max(chosen) >= 3 and len(chosen) == before


MUTANTS: dict[str, tuple[Mutant, Callable[[World], None]]] = {
    "on its way": (Mutant("supervisor.decision:counted", "coming = moved.state in PULLS", "return decision"), burst),
    "at work": (
        Mutant(
            "supervisor.admission:_blocked",
            "if pulls[request.repo] + repos[request.repo] >=",
            "if pulls[request.repo] >=",
        ),
        burst,
    ),
    "not coming after all": (
        Mutant("supervisor.decision:counted", "coming = moved.state in PULLS", "coming = True"),
        refused,
    ),
    "found again": (
        Mutant("supervisor.desk:Desk._reconcile", "if has_pull(view) and view.id not in self._pulls:", "if False:"),
        looked_around,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(
    name: str, new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant, scenario = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises((AssertionError, FleetError)):
        scenario(new_world())
