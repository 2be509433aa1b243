"""One ticket about which nothing can be decided, or whose numbers are absurd, stops itself and not the fleet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.core.budget import Cost
from fleet.core.codec import encode
from fleet.core.errors import FleetError
from fleet.core.events import Note, RetryRequested, Source, TurnFinished
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, shard_of
from supervisor.fold import fold_all
from supervisor.policy import Policy
from supervisor.replay import Judged, replay
from supervisor.trouble import OUR_FAULT, Trouble
from tests.supervisor.test_losses import gating
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

BAD = "if view.ticket.title == 'bad': raise ZeroDivisionError('a bug of ours')"
NOTE = "isinstance(event.data, Note):"


def two() -> tuple[Ticket, Ticket]:
    """A bad ticket, and a good one in the same shard."""
    bad = ticket(title="bad")
    good = next(one for one in (ticket(number=n) for n in range(2, 200)) if shard_of(one.id) == shard_of(bad.id))
    return bad, good


def spends(world: World) -> None:
    """A model, or an attempt, that claims absurd prices leaves a view that every owner can read."""
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    for turn, usd in enumerate((1e308, 1e308, 1e308, -1e308, -1e308), 1):
        world.players.attempt_says(wanted.id, 1, TurnFinished(turn, Cost(usd, 10**300, -5, 1), "m"))
    world.turns(supervisor, 2)
    supervisor.leave()
    world.turns(world.make("second"), 2)
    view = world.seen(wanted)
    assert view.seq == 6
    assert 0 < view.cost.usd < 1e12
    assert view.cost.output_tokens == 0


@pytest.mark.invariant("I6")
def test_absurd_prices_leave_a_view_that_can_be_read(world: World) -> None:
    spends(world)


def set_aside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bad one parks with what to do, the good one goes on, and a person may try again."""
    supervisor, (bad, good) = world.make(), two()
    gating(world, supervisor, bad)
    with monkeypatch.context() as broken:
        Mutant("supervisor.decide:_gating", "verdict, failed =", f"{BAD}\n    verdict, failed =").install(broken)
        world.players.accept(good)
        world.until_quiet(supervisor)
    view = world.seen(bad)
    assert (view.state, view.reason) == (State.PARKED, Reason.CONFIG)
    assert view.detail.startswith(OUR_FAULT) and "ZeroDivisionError: a bug of ours" in view.detail
    assert world.seen(good).state is State.IN_REVIEW
    log = [event for _, event in world.ledgers["people"].log(bad.id)]
    assert fold_all(log) == view
    assert list(replay(log, Policy()))[-1].judged is Judged.NONE
    world.players.say("people", Source.PEOPLE, bad.id, 0, RetryRequested("ann"))
    world.until_quiet(supervisor)
    assert world.seen(bad).state is State.IN_REVIEW


def passed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot even be set aside stays as it is, and the good one goes on."""
    supervisor, (bad, good) = world.make(), two()
    gating(world, supervisor, bad)
    Mutant("supervisor.decide:_gating", "verdict, failed =", f"{BAD}\n    verdict, failed =").install(monkeypatch)
    Mutant("supervisor.trouble:set_aside", "if not allowed", f"{BAD}\n    if not allowed").install(monkeypatch)
    world.players.accept(good)
    world.until_quiet(supervisor)
    assert world.seen(bad).state is State.GATING
    assert world.seen(good).state is State.IN_REVIEW


def quarantined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that cannot be folded lies in the quarantine, and everything after it is heard."""
    supervisor, (bad, good) = world.make(), two()
    for one in (bad, good):
        world.running(supervisor, one)
    with monkeypatch.context() as broken:
        Mutant("supervisor.fold:_note", f"if {NOTE}", f"{BAD}\n    if {NOTE}").install(broken)
        world.players.attempt_says(bad.id, 1, Note("what breaks"))
        world.players.attempt_says(good.id, 1, Note("all is well"))
        world.turns(supervisor, 2)
    assert world.seen(good).activity == "all is well"
    assert any(b"what breaks" in raw for raw in world.ledgers["people"].quarantine())
    assert encode(world.seen(bad))


@pytest.mark.invariant("I6")
@pytest.mark.invariant("I16")
@pytest.mark.parametrize("scenario", [set_aside, passed_over, quarantined])
def test_a_bug_that_one_ticket_meets_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, scenario: Callable[[World, pytest.MonkeyPatch], None]
) -> None:
    scenario(world, monkeypatch)


MUTANTS = {
    "a price without an end": ("fleet.core.budget:Cost.__add__", "min(max(other.usd, 0.0), _MOST)", "other.usd"),
    "one ticket ends the owner": (
        "supervisor.shard:ShardKeeper._spared", "except Trouble as trouble:", "except KeyError as trouble:",
    ),
    "one ticket ends the owner in setting it aside": (
        "supervisor.shard:ShardKeeper._spared", '"" if trouble.ticket in self._aside else trouble.why', "trouble.no",
    ),
    "one word ends the owner": ("supervisor.shard:ShardKeeper._take_in", "except Exception as", "except KeyError as"),
}  # fmt: skip
SCENARIOS: dict[str, Callable[[World, pytest.MonkeyPatch], None]] = {
    "a price without an end": lambda world, _: spends(world),
    "one ticket ends the owner": set_aside,
    "one ticket ends the owner in setting it aside": passed_over,
    "one word ends the owner": quarantined,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_this_protection_it_is_noticed(
    name: str, new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    Mutant(*MUTANTS[name]).install(monkeypatch)
    with pytest.raises((AssertionError, FleetError, Trouble, ZeroDivisionError, AttributeError)):
        SCENARIOS[name](new_world(), monkeypatch)
