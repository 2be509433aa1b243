"""The same change is not checked twice: what was red on exactly this tree stays red until there is new evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.adapters.ledger import RedisLedger
from fleet.core.effects import EffectKind
from fleet.core.events import (
    AttemptStarted,
    AttemptStopped,
    ChangeReady,
    GateFinished,
    GatesFinished,
    GatesStarted,
    RetryRequested,
    Source,
)
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, TicketLimits
from supervisor.fold import fold_all
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.players import CHANGE
from tests.support.tickets import ticket

HEAD, BASE = "h" * 40, "b" * 40
SAME = replace(CHANGE, tree="1" * 40)
OTHER = replace(CHANGE, tree="2" * 40)
SAID = "E       assert 5 == 4"


def make(world: World, attempts: int = 9, rounds: int = 9) -> tuple[Supervisor, Ticket]:
    wanted = ticket(agent="anthropic", limits=TicketLimits(attempts=attempts, gate_rounds=rounds))
    supervisor = world.make()
    world.players.accept(wanted)
    world.turns(supervisor)
    return supervisor, wanted


def hands_over(world: World, supervisor: Supervisor, wanted: Ticket, change: ChangeReady) -> None:
    """The attempt that is ordered now is taken, and ends with this change."""
    world.turns(supervisor)
    order = world.ordered(wanted, EffectKind.START_ATTEMPT)[-1]
    ledger: RedisLedger = world.ledgers["attempt"]
    assert ledger.begin("agents", order, "guard")
    started = AttemptStarted("h", 1, wanted.agent, ledger.incarnation())
    world.players.attempt_says(wanted.id, order.attempt, started, change, AttemptStopped("done", 0))
    world.turns(supervisor, 2)


def gated(world: World, supervisor: Supervisor, wanted: Ticket, passed: bool = False, gate: str = "tests") -> None:
    view, say = world.seen(wanted), world.players.say
    assert view.state is State.GATING
    outcome = "passed" if passed else "failed"
    for data in (
        GatesStarted(view.round, HEAD, BASE, (gate,)),
        GateFinished(view.round, gate, "tests", outcome, 1.0, "1 new", "" if passed else SAID),
        GatesFinished(view.round, HEAD, BASE, passed, f"{gate}: 1 new"),
    ):
        say("gates", Source.GATES, wanted.id, view.attempt, data)
    world.turns(supervisor, 2)


def rounds(world: World, wanted: Ticket) -> int:
    """How often gates were ordered."""
    return len({effect.id for effect in world.ordered(wanted, EffectKind.RUN_GATES)})


@pytest.mark.invariant("I16")
def test_the_same_change_is_not_gated_again_and_its_agent_is_told_why(world: World) -> None:
    supervisor, wanted = make(world)
    hands_over(world, supervisor, wanted, SAME)
    gated(world, supervisor, wanted)
    assert SAID in world.seen(wanted).digest
    hands_over(world, supervisor, wanted, SAME)
    world.turns(supervisor)
    view = world.seen(wanted)
    assert rounds(world, wanted) == 1
    assert view.state is State.STARTING
    assert view.digest.startswith("The same change failed before (tests)")
    assert SAID in view.digest
    assert (view.repair, view.failed("red:1111111111111111:tests")) == (2, 2)
    hands_over(world, supervisor, wanted, OTHER)
    gated(world, supervisor, wanted, passed=True)
    assert world.seen(wanted).state is State.PUBLISHING
    assert rounds(world, wanted) == 2
    assert fold_all([event for _, event in world.ledgers["people"].log(wanted.id)]) == world.seen(wanted)


@pytest.mark.invariant("I16")
@pytest.mark.parametrize(("attempts", "allowed"), [(9, 3), (3, 9)])
def test_an_agent_that_changes_nothing_more_ends_with_what_to_do(world: World, attempts: int, allowed: int) -> None:
    supervisor, wanted = make(world, attempts, allowed)
    hands_over(world, supervisor, wanted, SAME)
    gated(world, supervisor, wanted)
    hands_over(world, supervisor, wanted, SAME)
    hands_over(world, supervisor, wanted, SAME)
    view = world.seen(wanted)
    assert (view.state, view.reason, view.attempt) == (State.ESCALATED, Reason.POISON, 3)
    assert "the same change 3 times, and on it this is red: tests" in view.detail
    assert "mend it on the base branch" in view.detail
    assert rounds(world, wanted) == 1


def test_a_change_that_was_red_long_ago_is_known_still(world: World) -> None:
    supervisor, wanted = make(world)
    for change, gate in ((SAME, "tests"), (OTHER, "lint")):
        hands_over(world, supervisor, wanted, change)
        gated(world, supervisor, wanted, gate=gate)
    hands_over(world, supervisor, wanted, SAME)
    assert rounds(world, wanted) == 2
    assert world.seen(wanted).digest.startswith("The same change failed before (tests)")


def test_a_person_who_asks_again_is_new_evidence(world: World) -> None:
    supervisor, wanted = make(world, attempts=2)
    hands_over(world, supervisor, wanted, SAME)
    gated(world, supervisor, wanted)
    hands_over(world, supervisor, wanted, SAME)
    assert world.seen(wanted).state is State.ESCALATED
    world.players.person(wanted.id, RetryRequested("ann"))
    hands_over(world, supervisor, wanted, SAME)
    gated(world, supervisor, wanted, passed=True)
    assert world.seen(wanted).state is State.PUBLISHING
