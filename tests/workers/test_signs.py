"""The guard's own words on real processes: its answer to a probe, and that nothing lives when it says so."""

from __future__ import annotations

import os
import signal

import pytest

from fleet.adapters import fork
from fleet.adapters.ids import SystemIds
from fleet.adapters.launcher import folder_of
from fleet.adapters.sandbox import procfs
from fleet.core.commands import Command, CommandKind
from fleet.core.events import AttemptFailed, AttemptStopped, SignGiven
from tests.support.mutants import Mutant
from tests.support.wait import eventually
from tests.workers.kit import CLOCK, Attempts, left
from workers.guard import Guard, Post
from workers.link import Link
from workers.loop import Assignment, Tools

PROBE = Command("probe-1", CommandKind.PROBE)
END = Command("stop-1", CommandKind.CHECKPOINT, "it stalled (loop)")


def stubborn(assignment: Assignment, tools: Tools, link: Link) -> None:
    """A loop whose child slips away into a session of its own; neither of them ends by itself."""
    if os.fork() == 0:
        os.setsid()
    while True:
        tools.clock.sleep(3600.0)


def at_work(attempts: Attempts) -> int:
    """The pid of the guard of an attempt that has a loop and a process beside it."""

    def run(ticket: str, attempt: int) -> None:
        spool = folder_of(attempts.layout.attempts, ticket, attempt) / "events.spool"
        post = Post("host", "incarnation", SystemIds().hex(16), spool)
        tools, slots = attempts.tools(), attempts.slots
        Guard(
            ticket, attempt, channel=attempts.channel, post=post, slots=slots, tools=tools, clock=CLOCK, work=stubborn
        ).run()

    attempts.serve(run)
    live = attempts.launcher.start(attempts.order("anthropic").id, 1)
    assert eventually(lambda: len(left(live.pid)) == 2, 20)
    return live.pid


def signs(attempts: Attempts) -> list[SignGiven]:
    return [event.data for event in attempts.channel.said() if isinstance(event.data, SignGiven)]


def answered(attempts: Attempts) -> None:
    """A probe gets one answer, which tells a loop that works from one that stands still."""
    guard = at_work(attempts)
    attempts.channel.tell(PROBE)
    assert eventually(lambda: len(signs(attempts)) == 1, 10)
    (sign,) = signs(attempts)
    assert sign.loop in ("running", "waiting")
    assert sign.processes == 2
    (loop,) = fork.children(guard)
    os.kill(loop, signal.SIGSTOP)
    assert eventually(lambda: (row := procfs.row(loop)) is not None and row.state == "T", 10)
    attempts.channel.tell(Command("probe-2", CommandKind.PROBE))
    assert eventually(lambda: len(signs(attempts)) == 2, 10)
    assert signs(attempts)[1].loop == "stopped"


@pytest.mark.invariant("I15")
def test_a_guard_says_what_its_loop_does(attempts: Attempts) -> None:
    answered(attempts)


def test_a_probe_that_came_while_the_ledger_was_away_is_answered_later(attempts: Attempts) -> None:
    at_work(attempts)
    attempts.channel.away.touch()
    attempts.channel.tell(PROBE)
    assert not signs(attempts)
    attempts.channel.away.unlink()
    assert eventually(lambda: len(signs(attempts)) == 1, 20)


def ended(attempts: Attempts) -> None:
    """The end is told when nothing of the attempt lives, even if its loop stands still and its command slips away."""
    guard = at_work(attempts)
    mine = left(guard)
    os.kill(fork.children(guard)[0], signal.SIGSTOP)
    alive: list[set[int]] = []
    attempts.channel.tell(END)

    def over() -> bool:
        kinds = attempts.channel.kinds()
        if "AttemptFailed" in kinds:
            alive.append({*mine} & {*left(guard)})
        return "AttemptStopped" in kinds

    assert eventually(over, 20)
    assert not any(alive)
    said = [event.data for event in attempts.channel.said()]
    assert said[-1] == AttemptStopped("handed back", left=0)
    (failure,) = [data for data in said if isinstance(data, AttemptFailed)]
    assert "because it stalled (loop)" in failure.detail


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I10")
def test_the_end_is_told_when_nothing_lives_any_more(attempts: Attempts) -> None:
    ended(attempts)


MUTANTS = {
    "a probe goes unanswered": ("workers.guard:Guard._forward", "command.kind is CommandKind.PROBE", "False", answered),
    "a frozen loop looks alive": ("workers.liveness:sign", '_STATES.get(states[0], "waiting")', '"waiting"', answered),
    "an end that nobody looked at": ("workers.guard:Guard._carry_out", "below(os.getpid())", "-1", ended),
    "the tree is not killed": (
        "workers.guard:Guard._watch",
        "dead = self._kill(me, self._clock)",
        "dead = True",
        ended,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_without_this_protection_is_noticed(
    name: str, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, old, new, scenario = MUTANTS[name]
    Mutant(where, old, new).install(monkeypatch)
    with pytest.raises(AssertionError):
        scenario(attempts)
