"""An attempt that was cut off comes back: it hands over unless its successor was claimed (real ledger)."""

from __future__ import annotations

import pytest

from fleet.core.budget import Cost
from fleet.core.commands import CommandKind
from fleet.core.effects import EffectKind
from fleet.core.events import (
    AttemptStarted,
    AttemptStopped,
    ChangeReady,
    GatesFinished,
    Heartbeat,
    Note,
    Source,
    TurnFinished,
)
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from supervisor.admission import Caps
from supervisor.fold import fold_all
from supervisor.late import start_of
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.players import CHANGE
from tests.support.tickets import ticket

OTHER = ChangeReady("other", "d" * 40, "e" * 40, "b" * 40, 1, 1, 0)


def lost(world: World, supervisor: Supervisor, wanted: Ticket) -> None:
    """The first attempt was claimed and then fell silent; the second is ordered and nobody has claimed it."""
    world.running(supervisor, wanted)
    world.turns(supervisor, 40, seconds=1)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.failed("lost")) == (State.STARTING, 2, 1)


def back_in_time(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    lost(world, supervisor, wanted)
    world.players.woken.clear()
    cost = Cost(input_tokens=7, usd=0.5)
    world.players.attempt_says(wanted.id, 1, TurnFinished(1, cost), CHANGE, AttemptStopped("done"))
    world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert (view.state, view.reason, view.attempt, view.slot) == (State.GATING, Reason.CHANGE_READY, 1, 0)
    assert (view.change, view.cost.usd) == (CHANGE, 0.5)
    assert not world.ledgers["attempt"].claim(wanted.id, 2, "its successor"), "the order was withdrawn"
    world.until_quiet(supervisor)
    view = world.seen(wanted)
    assert (view.state, view.attempt) == (State.IN_REVIEW, 1)
    log = [event for _, event in world.ledgers["people"].log(wanted.id)]
    assert fold_all(log) == view
    mine = [event.seq for event in log if event.source is Source.ATTEMPTS and event.attempt == 1]
    assert mine == list(range(1, 5))


def back_too_late(world: World) -> None:
    """Its successor was claimed and has not said a word; only the ledger knows."""
    supervisor, wanted = world.make(), ticket()
    lost(world, supervisor, wanted)
    assert world.ledgers["attempt"].claim(wanted.id, 2, "its successor")
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.turns(supervisor, 3)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.change) == (State.STARTING, 2, None)
    world.players.attempt_says(wanted.id, 2, AttemptStarted("h", 2, wanted.agent, "i"))
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.RUNNING
    told = [raw for _, raw in world.ledgers["attempt"].commands(wanted.id, 1, "0", 1)]
    assert [f'"kind":"{CommandKind.CANCEL.value}"'.encode() in raw for raw in told] == [True], "it shall leave"
    world.players.attempt_says(wanted.id, 2, OTHER)
    world.turns(supervisor, 2)
    assert (world.seen(wanted).state, world.seen(wanted).change) == (State.GATING, OTHER)


def both_at_once(world: World) -> None:
    """The successor's first words and the lost attempt's change are read in one batch."""
    supervisor, wanted = world.make(), ticket()
    lost(world, supervisor, wanted)
    assert world.ledgers["attempt"].claim(wanted.id, 2, "its successor")
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.players.attempt_says(wanted.id, 2, AttemptStarted("h", 2, wanted.agent, "i"), OTHER)
    world.turns(supervisor, 3)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.change) == (State.GATING, 2, OTHER)


@pytest.mark.invariant("I3")
def test_a_lost_attempt_that_is_back_in_time_hands_over(world: World) -> None:
    back_in_time(world)


@pytest.mark.invariant("I3")
def test_a_lost_attempt_that_is_back_too_late_changes_nothing(world: World) -> None:
    back_too_late(world)


@pytest.mark.invariant("I3")
def test_the_claim_wins_over_the_hand_over_of_the_same_moment(world: World) -> None:
    both_at_once(world)


@pytest.mark.invariant("I3")
def test_it_hands_over_while_its_ticket_waits_for_a_place(world: World) -> None:
    supervisor, wanted, others = world.make(caps=Caps(fleet=1)), ticket(), ticket(2, priority=1)
    world.running(supervisor, wanted)
    world.players.accept(others)
    world.turns(supervisor, 40, seconds=1)
    assert (world.seen(wanted).state, world.seen(others).state) == (State.QUEUED, State.STARTING)
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert (view.state, view.attempt) == (State.GATING, 1)
    world.until_quiet(supervisor)
    assert world.seen(others).state is State.IN_REVIEW
    assert world.seen(wanted).state is State.IN_REVIEW


def test_its_number_is_used_again_when_the_gates_are_red(world: World) -> None:
    """The withdrawn successor was never claimed: no number is skipped, no place is held twice."""
    supervisor, wanted = world.make(), ticket(agent="anthropic")
    lost(world, supervisor, wanted)
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.turns(supervisor, 2)
    gates = world.ordered(wanted, EffectKind.RUN_GATES)[-1]
    assert (gates.attempt, gates.round) == (1, 1)
    red = GatesFinished(1, "h" * 40, "b" * 40, False, "1 failed")
    world.players.say("gates", Source.GATES, wanted.id, 1, red)
    world.turns(supervisor, 6)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.slot) == (State.STARTING, 2, 2)
    assert world.ledgers["attempt"].claim(wanted.id, 2, "guard")


@pytest.mark.invariant("I14")
def test_what_was_lost_on_its_way_is_asked_for(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    lost(world, supervisor, wanted)
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, CHANGE, 3)
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.STARTING
    told = [raw for _, raw in world.ledgers["attempt"].commands(wanted.id, 1, "0", 1)]
    assert ['"kind":"resend"' in str(raw) and '"seq":2' in str(raw) for raw in told] == [True]
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, Heartbeat(3))
    world.turns(supervisor, 2)
    assert len(world.ledgers["attempt"].commands(wanted.id, 1, "0", 1)) == 2
    for seq, data in ((2, Note("second")), (3, CHANGE)):
        world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, data, seq)
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.GATING


def test_its_heartbeats_are_no_sign_of_life_of_its_successor(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    lost(world, supervisor, wanted)
    for _ in range(40):
        world.players.attempt_says(wanted.id, 1, Heartbeat(1))
        world.turns(supervisor, 1, seconds=9)
    assert world.seen(wanted).reason is Reason.NEVER_CLAIMED or world.seen(wanted).hand_backs == 1
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.turns(supervisor, 2)
    assert world.seen(wanted).change is None, "one place was given to a second successor"


@pytest.mark.invariant("I3")
@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("lua:step", "return 'BEGUN ' .. ARGV[i + 1]", "local _ = 1", back_too_late),
        Mutant("lua:step", "return 'BEGUN ' .. ARGV[i + 1]", "local _ = 1", both_at_once),
        Mutant("supervisor.late:hand_over", "unbegun=successor(view)", 'unbegun=""', back_too_late),
        Mutant("supervisor.late:speaks", "if event.source is not Source.ATTEMPTS", "if True", back_in_time),
        Mutant("supervisor.shard:ShardKeeper._decide_about", "self._withdraw(turn, view)\n", "pass\n", back_in_time),
        Mutant("supervisor.service:Supervisor._write", "keeper.shard.claimed |= claimed", "pass", back_too_late),
        Mutant("supervisor.late:overtaken", "if not view.late.attempt:", "if True:", back_too_late),
    ],
    ids=lambda mutant: f"{mutant.where} {mutant.scenario.__name__}",
)
def test_without_its_protection_it_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError):
        mutant.scenario(world)


def test_the_order_has_the_name_of_the_claim() -> None:
    assert start_of("demo-1-055328ea", 2) == "demo-1-055328ea:start:2:0:0"
