"""A supervisor that dies at each named point, at each of its passes there: its successor ends the same way (I6)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from fleet.adapters.crash import POINTS
from fleet.core.events import StateChanged
from fleet.core.states import State
from supervisor.fold import fold_all
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

MINE = [point for point in POINTS if point.startswith("supervisor.")]
TICKETS = [ticket(1), ticket(2, repo="local/other")]
# The first step in a new ledger only marks the shards with the store's history.
MARKED = 2


class Died(BaseException):
    """As by kill -9: nothing of the supervisor handles it."""


def story(world: World) -> list[tuple[State, int, int, list[str]]]:
    """What people see of each ticket in the end: state, attempts, pull requests, the way there."""
    told = []
    for one in TICKETS:
        log = [event for _, event in world.ledgers["people"].log(one.id)]
        view = world.seen(one)
        assert fold_all(log) == view
        moves = [event.data.state.value for event in log if isinstance(event.data, StateChanged)]
        pulls = sum(event.kind == "Published" for event in log)
        told.append((view.state, view.attempt, pulls, [move for move in moves if move != "running"]))
    return told


def live(world: World, monkeypatch: pytest.MonkeyPatch, point: str, nth: int) -> int:
    """Two tickets from acceptance to review; at its ``nth`` pass of ``point`` the supervisor dies. Answers kills."""
    passes, kills, names = count(1), 0, count(1)

    def crash_here(where: str) -> None:
        if where == point and next(passes) == nth:
            raise Died

    for module in ("service", "post"):
        monkeypatch.setattr(f"supervisor.{module}.crash_here", crash_here)
    supervisor: Supervisor = world.make(f"supervisor-{next(names)}")
    for one in TICKETS:
        world.players.accept(one)
    for _ in range(24):
        try:
            world.turns(supervisor, 1)
        except Died:
            kills += 1
            admin = world.clients["admin"]
            admin.delete(*admin.keys("fleet:*:owner"), "fleet:members")  # its leases ran out
            supervisor = world.make(f"supervisor-{next(names)}")
        world.players.act_all()
    return kills


def same_end_whenever_it_dies(
    new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch, point: str, at: range
) -> None:
    undisturbed = new_world()
    assert live(undisturbed, monkeypatch, "", 0) == 0
    wanted = story(undisturbed)
    assert [(state, attempts, pulls) for state, attempts, pulls, _ in wanted] == [(State.IN_REVIEW, 1, 1)] * 2
    kills = different = 0
    for nth in at:
        world = new_world()
        kills += live(world, monkeypatch, point, nth)
        different += story(world) != wanted
    print(f"{point}: rounds {len(at)}, kills {kills}, ended otherwise {different}")
    assert kills >= 4, "the point was hardly reached"
    assert different == 0


@pytest.mark.invariant("I6")
@pytest.mark.parametrize("point", MINE)
def test_a_supervisor_killed_at_any_pass_changes_nothing(
    new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    first = 1 if point == "supervisor.sent" else MARKED
    same_end_whenever_it_dies(new_world, monkeypatch, point, range(first, first + 9))


@pytest.mark.invariant("I6")
def test_a_successor_that_forgets_what_was_still_to_be_sent_is_noticed(
    new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    Mutant("supervisor.service:Supervisor._take", "in loaded.outbox.items()", "in ()").install(monkeypatch)
    with pytest.raises(AssertionError):
        same_end_whenever_it_dies(new_world, monkeypatch, "supervisor.after_step", range(MARKED, MARKED + 5))
