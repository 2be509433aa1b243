"""A log told again: each step's changes, each decision judged, and what breaks a law named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.core.errors import InternalError
from fleet.core.events import Envelope, Nudged, StateChanged
from fleet.core.states import Reason, State
from supervisor.policy import Policy
from supervisor.replay import Judged, changes, pending, replay
from tests.supervisor.every_scene import SCENES
from tests.supervisor.scenes import failing, lost, merged, stalled
from tests.supervisor.world import World
from tests.support.mutants import Mutant

# Where the scenes end; that each is what its name says.
ENDS = {
    "merged": (State.MERGED, Reason.PR_MERGED),
    "red_gates": (State.IN_REVIEW, Reason.PUBLISHED),
    "stalled": (State.IN_REVIEW, Reason.PUBLISHED),
    "lost": (State.CLOSED, Reason.PR_CLOSED),
    "paused": (State.IN_REVIEW, Reason.PUBLISHED),
    "cancelled": (State.CANCELLED, Reason.CANCELLED_BY_PERSON),
    "approved": (State.IN_REVIEW, Reason.PUBLISHED),
    "failing": (State.PARKED, Reason.CONFIG),
    "outages": (State.IN_REVIEW, Reason.PUBLISHED),
    "late": (State.IN_REVIEW, Reason.PUBLISHED),
    "budget": (State.IN_REVIEW, Reason.PUBLISHED),
    "gap": (State.MERGED, Reason.PR_MERGED),
    "recovered": (State.MERGED, Reason.PR_MERGED),
    "in_review_again": (State.CLOSED, Reason.PR_CLOSED),
    "comments": (State.CANCELLED, Reason.CANCELLED_BY_PERSON),
    "passed_on": (State.IN_REVIEW, Reason.PUBLISHED),
    "question": (State.IN_REVIEW, Reason.PUBLISHED),
}


def logged(world: World, ticket: str) -> list[Envelope]:
    return [event for _, event in world.ledgers["people"].log(ticket)]


@pytest.mark.invariant("I17")
@pytest.mark.parametrize("name", SCENES)
def test_every_decision_of_a_life_is_made_again(world: World, name: str) -> None:
    """Another policy than the one that decided: its thresholds are clocks, which are not compared."""
    wanted = SCENES[name](world)
    events, stored = logged(world, wanted.id), world.seen(wanted)
    assert (stored.state, stored.reason) == ENDS[name]
    steps = list(replay(events, Policy()))
    assert [step.number for step in steps] == list(range(1, len(events) + 1))
    assert steps[-1].view == stored and not changes(stored, steps[-1].view)
    assert [step.event for step in steps if step.judged is Judged.OTHERWISE] == []
    decisions = [step for step in steps if isinstance(step.event.data, StateChanged)]
    assert decisions and all(step.judged in (Judged.SAME, Judged.BY_CLOCK) for step in decisions)
    assert pending(steps[-1].view, events[-1].at, Policy()) is None


def test_changes_are_named_field_by_field(world: World) -> None:
    events = logged(world, merged(world).id)
    told = {
        step.event.kind: {one.field: (one.before, one.after) for one in step.changes}
        for step in replay(events, Policy())
    }
    assert told["TicketAccepted"]["state"] == (None, "queued")
    assert told["SlotGranted"] == {"news.granted": (0, 1), "slot": (0, 1)}
    assert told["ToolStarted"]["watch.doing"] == ("", "shell true")
    orders = [order.effect.id.split(":", 1)[1] for step in replay(events, Policy()) for order in step.orders]
    assert orders[:4] == ["ask_slot:1:0:0", "start:1:0:0", "note_pr:1:0:0", "gates:1:1:0"]


def test_what_only_a_clock_explains_is_said(world: World) -> None:
    """Silence of a worker and a ladder's pauses are nobody's word."""
    steps = list(replay(logged(world, lost(world).id), Policy()))
    losses = [
        step for step in steps if isinstance(step.event.data, StateChanged) and step.event.data.reason is Reason.LOST
    ]
    assert [step.judged for step in losses] == [Judged.BY_CLOCK] * 2


def test_rungs_of_the_ladder_are_judged(world: World) -> None:
    steps = list(replay(logged(world, stalled(world).id), Policy()))
    rungs = [step.judged for step in steps if isinstance(step.event.data, Nudged)]
    assert rungs and Judged.OTHERWISE not in rungs


def rewritten(events: list[Envelope], old: Reason, **changed: object) -> list[Envelope]:
    """The log as a fleet with another rule would have written it."""
    found = next(n for n, one in enumerate(events) if isinstance(one.data, StateChanged) and one.data.reason is old)
    event = events[found]
    assert isinstance(event.data, StateChanged)
    return [*events[:found], replace(event, data=replace(event.data, **changed))]  # type: ignore[arg-type]


def another_rule_is_flagged(world: World) -> None:
    """The same log, in which a failed agent was given up at once."""
    events = logged(world, failing(world).id)
    last = list(replay(rewritten(events, Reason.AGENT_ERROR, state=State.ESCALATED, reason=Reason.POISON), Policy()))[
        -1
    ]
    assert last.judged is Judged.OTHERWISE and last.instead is not None
    assert isinstance(last.instead.event, StateChanged) and last.instead.event.reason is Reason.AGENT_ERROR
    assert not last.orders


def test_a_decision_that_this_version_would_not_make_is_flagged(world: World) -> None:
    another_rule_is_flagged(world)


def test_how_long_a_pause_was_is_dice_and_not_compared(world: World) -> None:
    events = logged(world, failing(world).id)
    last = list(replay(rewritten(events, Reason.AGENT_ERROR, until=1.0, detail="other words"), Policy()))[-1]
    assert last.judged is Judged.SAME


def test_a_log_that_ends_too_early_says_what_is_next(world: World) -> None:
    events = logged(world, merged(world).id)
    end = next(n for n, one in enumerate(events) if one.kind == "GatesFinished")
    *_, last = replay(events[: end + 1], Policy())
    found = pending(last.view, events[end].at, Policy())
    assert found is not None and isinstance(found.event, StateChanged) and found.event.state is State.PUBLISHING


def test_a_log_that_breaks_a_law_is_not_told_on(world: World) -> None:
    events = logged(world, merged(world).id)
    with pytest.raises(InternalError, match="came before the ticket"):
        list(replay(events[1:], Policy()))
    with pytest.raises(InternalError, match="not in the table"):
        list(replay(rewritten(events, Reason.GRANTED, state=State.MERGED), Policy()))


MUTANTS = {
    "judge": Mutant(
        "supervisor.replay:_judge",
        "return Judged.OTHERWISE, plain",
        "return Judged.BY_CLOCK, plain",
        another_rule_is_flagged,
    ),
    "compare": Mutant(
        "supervisor.replay:_alike",
        "if one.name not in _LOOSE and mine != theirs:",
        "if False:",
        another_rule_is_flagged,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_replay_that_does_not_judge_is_noticed(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError):
        mutant.scenario(world)
