"""Stalls: noticed by their causes, answered rung by rung, on a clock of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fleet.adapters.ledger import RedisAttemptChannel
from fleet.core.codec import decode
from fleet.core.commands import Command, CommandKind
from fleet.core.events import (
    AgentStarted,
    AttemptStopped,
    Envelope,
    EventData,
    Heartbeat,
    ModelAsked,
    Nudged,
    PauseRequested,
    ResumeRequested,
    Rung,
    SignGiven,
    Source,
    SteerRequested,
    ToolFinished,
    ToolStarted,
)
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from fleet.core.view import Watch
from supervisor.fold import fold_all
from supervisor.policy import Policy
from supervisor.service import Supervisor
from supervisor.stall import Quiet, cause, watched
from tests.supervisor.world import World
from tests.support.tickets import ticket

POLICY = Policy(silence=20.0, model_silence=60.0, no_progress=100.0, between_rungs=10.0, probe_within=5.0)


def after(*calls: tuple[str, str, int]) -> Watch:
    watch = Watch(begun=True)
    for call, digest, code in calls:
        watch = watched(watch, call, digest, code)
    return watch


A, B = ("ls", "1", 0), ("cat x", "2", 0)
BAD = ("pytest", "3", 1)


@pytest.mark.invariant("I15")
@pytest.mark.parametrize(
    ("watch", "quiet", "expected"),
    [
        (after(A, A, A), Quiet(), ""),
        (after(A, A, A, A), Quiet(), "loop"),
        (after(A, A, A, B), Quiet(), ""),
        (after(BAD, BAD), Quiet(), ""),
        (after(BAD, BAD, BAD), Quiet(), "errors"),
        (after(A, B, A, B, A), Quiet(), ""),
        (after(A, B, A, B, A, B), Quiet(), "alternation"),
        # Polling something that changes is no loop: each result is another.
        (after(*[("tail log", str(n), 0) for n in range(12)]), Quiet(), ""),
        (after(A), Quiet(word=20.0), ""),
        (after(A), Quiet(word=20.1), "silence"),
        (replace(after(A), asking=True), Quiet(word=60.0), ""),
        (replace(after(A), asking=True), Quiet(word=60.1), "silence"),
        (after(A), Quiet(progress=100.1), "idleness"),
        # Who waits for a slow model does not idle; who asks it again and again and finds nothing new does.
        (replace(after(A), asking=True), Quiet(word=50.0, progress=140.0), ""),
        (replace(after(A), asking=True), Quiet(word=5.0, progress=105.1), "idleness"),
        (Watch(), Quiet(word=900.0, progress=900.0), ""),
    ],
)
def test_each_cause(watch: Watch, quiet: Quiet, expected: str) -> None:
    assert cause(watch, quiet, POLICY) == expected


@pytest.mark.parametrize(
    ("calls", "policy", "expected"),
    [
        ((A, A), replace(POLICY, same_calls=2), "loop"),
        ((A, A, A, A, A), replace(POLICY, same_calls=0), ""),
        ((A,) * 20, replace(POLICY, same_calls=12), "loop"),
        ((BAD, BAD), replace(POLICY, same_errors=2), "errors"),
        ((BAD, BAD, BAD), replace(POLICY, same_errors=0), ""),
        ((A, B, A, B), replace(POLICY, alternations=4), "alternation"),
        ((A, B) * 9, replace(POLICY, alternations=0), ""),
        ((A, B) * 3, replace(POLICY, alternations=8), ""),
    ],
)
def test_how_many_make_a_loop_is_the_operator_s_to_say(
    calls: tuple[tuple[str, str, int], ...], policy: Policy, expected: str
) -> None:
    assert cause(after(*calls), Quiet(), policy) == expected


def test_something_new_ends_the_streak() -> None:
    stuck = replace(after(A, A, A, A), rung=2)
    assert watched(stuck, *A).rung == 2
    assert watched(stuck, *B).rung == 0
    assert watched(stuck, *B).progress == stuck.progress + 1


BEAT = 4.0
SIGN = SignGiven("waiting", 3, 1.5, 20.0)


def at_work(world: World) -> tuple[Supervisor, Ticket]:
    """A supervisor with a ticket whose agent has started."""
    supervisor, wanted = world.make(policy=POLICY), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    says(world, supervisor, wanted, AgentStarted("anthropic", "landlock"))
    return supervisor, wanted


def says(world: World, supervisor: Supervisor, wanted: Ticket, *events: EventData) -> None:
    for event in events:
        world.players.attempt_says(wanted.id, 1, event)
    supervisor.turn(0)


def wait(world: World, supervisor: Supervisor, wanted: Ticket, seconds: float) -> None:
    """Time passes; the guard's heart beats, the agent says nothing."""
    left = seconds
    while left > 0:
        step = min(0.5, left)
        world.clock.advance(step)
        left -= step
        if int((seconds - left) / BEAT) != int((seconds - left - step) / BEAT):
            world.players.attempt_says(wanted.id, 1, Heartbeat(world.seen(wanted).seq))
        supervisor.turn(0)


def rungs(world: World, wanted: Ticket) -> list[Rung]:
    log = world.ledgers["people"].log(wanted.id)
    return [event.data.rung for _, event in log if isinstance(event.data, Nudged)]


@pytest.mark.invariant("I15")
def test_each_rung_is_taken_once_and_the_last_ends_the_attempt(world: World) -> None:
    supervisor, wanted = at_work(world)
    for number in range(5):
        says(
            world, supervisor, wanted,
            ToolStarted(str(number), "shell", "ls"), ToolFinished(str(number), "same", 0, 1),
        )  # fmt: skip
    assert rungs(world, wanted) == [Rung.PROBE]
    says(world, supervisor, wanted, SIGN)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.NUDGE]
    wait(world, supervisor, wanted, 9.0)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.NUDGE]
    wait(world, supervisor, wanted, 2.0)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.NUDGE, Rung.INTERRUPT]
    wait(world, supervisor, wanted, 11.0)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.NUDGE, Rung.INTERRUPT, Rung.STOP]
    assert world.seen(wanted).state is State.RUNNING
    says(world, supervisor, wanted, AttemptStopped("handed back", left=0))
    view = world.seen(wanted)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.NUDGE, Rung.INTERRUPT, Rung.STOP]
    assert (Reason.STALLED.value, 1) in view.failures
    assert "stalled (loop)" in view.digest
    assert fold_all([event for _, event in world.ledgers["people"].log(wanted.id)]) == view


@pytest.mark.invariant("I15")
def test_silence_is_noticed_within_a_second_of_its_threshold(world: World, jump: float = 0.0) -> None:
    supervisor, wanted = at_work(world)
    world.clock.jump(jump)
    wait(world, supervisor, wanted, 19.0)
    assert rungs(world, wanted) == []
    wait(world, supervisor, wanted, 2.0)
    assert rungs(world, wanted) == [Rung.PROBE]
    says(world, supervisor, wanted, SIGN)
    assert rungs(world, wanted) == [Rung.PROBE, Rung.INTERRUPT]
    assert world.seen(wanted).state is State.RUNNING


@pytest.mark.invariant("I15")
@pytest.mark.parametrize("seconds", [86_400.0, -86_400.0])
def test_a_jump_of_the_wall_clock_changes_nothing(world: World, seconds: float) -> None:
    test_silence_is_noticed_within_a_second_of_its_threshold(world, seconds)


@pytest.mark.invariant("I15")
def test_a_model_may_think_longer(world: World) -> None:
    supervisor, wanted = at_work(world)
    says(world, supervisor, wanted, ModelAsked("m"))
    wait(world, supervisor, wanted, 59.0)
    assert rungs(world, wanted) == []
    wait(world, supervisor, wanted, 2.0)
    assert rungs(world, wanted) == [Rung.PROBE]


def test_what_people_say_is_told_once_and_kept_for_the_next_attempt(world: World) -> None:
    supervisor, wanted = world.make(policy=POLICY), ticket(agent="anthropic")
    world.running(supervisor, wanted)
    people = world.ledgers["people"]
    for text in ("look at the docs", "and keep it small"):
        now = world.clock.now()
        said = Envelope(wanted.tenant, wanted.id, 0, 0, now, SteerRequested("ann", text), Source.PEOPLE)
        people.send(Source.PEOPLE, [said])
    supervisor.turn(0)
    assert world.seen(wanted).steers == ("ann: look at the docs", "ann: and keep it small")
    says(world, supervisor, wanted, AgentStarted("anthropic", "landlock"))
    assert world.seen(wanted).steers == ()
    world.turns(supervisor, 2)
    told = [decode(raw, Command) for _, raw in commands(world, wanted)]
    assert [command.kind for command in told] == [CommandKind.STEER]
    assert told[0].text == "ann: look at the docs\nann: and keep it small"


def commands(world: World, wanted: Ticket) -> Sequence[tuple[str, bytes]]:
    return RedisAttemptChannel(world.ledgers["attempt"]).commands(wanted.id, 1, "0", 1)


def test_a_paused_ticket_counts_no_attempt(world: World) -> None:
    supervisor, wanted = at_work(world)
    people = world.ledgers["people"]
    for data, state in ((PauseRequested("ann"), State.PARKED), (ResumeRequested("ann"), State.STARTING)):
        people.send(Source.PEOPLE, [Envelope(wanted.tenant, wanted.id, 0, 0, world.clock.now(), data, Source.PEOPLE)])
        world.turns(supervisor, 6)
        assert world.seen(wanted).state is state
    view = world.seen(wanted)
    assert (view.attempt, view.hand_backs) == (2, 1)
    assert [decode(raw, Command).kind for _, raw in commands(world, wanted)] == [CommandKind.CHECKPOINT]
