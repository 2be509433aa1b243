"""Real processes that stand still: the attempt's loop, its guard, the store. Each is noticed (I15)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

import workers.voice
from fleet.adapters import fork
from fleet.adapters.acl import Role
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.sandbox import procfs
from fleet.core.commands import Command
from fleet.core.events import (
    AttemptFailed,
    AttemptStopped,
    ChangeReady,
    EventData,
    Nudged,
    Rung,
    SignGiven,
    StateChanged,
    ToolStarted,
)
from fleet.core.states import State
from fleet.core.ticket import Ticket
from supervisor.policy import Policy
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually
from tests.workers.kit import Attempts
from tests.workers.test_ledger import Fleet, attempts, fleet, server
from workers.agents import Agent, Job, backend_for

pytestmark = pytest.mark.needs("bwrap")

__all__ = ["attempts", "fleet", "server"]
BEAT = 0.4
WORK = "command:sed -i s/x/y/ a.py"
POLICY = Policy(lost_after=4.0, silence=2.0, between_rungs=1.0, rewake_after=2.0, stop_within=25.0)


class Hangs:
    """An agent that in its first attempt says one word and then waits for ever; later ones do the work."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._stopped = False
        self._later = backend_for(WORK)

    def start(self, job: Job) -> None:
        self._job = job
        if job.attempt > 1:
            self._later.start(job)

    def events(self) -> Iterator[EventData]:
        assert self._job is not None
        if self._job.attempt > 1:
            yield from self._later.events()
            return
        yield ToolStarted("1", "shell", "wait")
        while not self._stopped:
            self._job.poll()
            self._job.clock.sleep(0.05)

    def tell(self, command: Command) -> None: ...

    def stop(self) -> None:
        self._stopped = True

    def outcome(self) -> AttemptFailed | None:
        return None


def agent_of(name: str) -> Agent:
    return Hangs() if name == "anthropic" else backend_for(name)


@pytest.fixture(autouse=True)
def _quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the attempt host is forked: ten times as many heartbeats, so that silence is short."""
    monkeypatch.setattr(workers.voice, "HEARTBEAT_S", BEAT)
    monkeypatch.setattr(workers.voice, "_LOOK_S", BEAT)
    monkeypatch.setattr(Attempts, "backend", staticmethod(agent_of))


def says(fleet: Fleet, one: Ticket, kind: type) -> bool:
    return any(isinstance(event.data, kind) for _, event in fleet.ledger(Role.PEOPLE).log(one.id))


def hanging(fleet: Fleet, attempts: Attempts, policy: Policy = POLICY) -> tuple[Ticket, int]:
    """A ticket whose first attempt hangs, and the pid of its guard."""
    one = ticket(agent="anthropic")
    fleet.start(attempts.launcher, policy=policy)
    fleet.accept(one)
    assert eventually(lambda: says(fleet, one, ToolStarted), 30)
    (live,) = attempts.launcher.live()
    return one, live.pid


@pytest.mark.invariant("I15")
def test_a_loop_that_stands_still_is_nudged_and_then_ended(fleet: Fleet, attempts: Attempts) -> None:
    one, guard = hanging(fleet, attempts)
    (loop,) = fork.children(guard)
    os.kill(loop, signal.SIGSTOP)
    assert fleet.reaches(one, State.GATING)
    view = fleet.view(one)
    assert view is not None
    assert (view.attempt, view.failed("stalled")) == (2, 1)
    log = [event.data for _, event in fleet.ledger(Role.PEOPLE).log(one.id)]
    assert [data.rung for data in log if isinstance(data, Nudged)] == [Rung.PROBE, Rung.INTERRUPT, Rung.STOP]
    assert next(data.loop for data in log if isinstance(data, SignGiven)) == "stopped"
    assert procfs.row(loop) is None, "what stood still was killed before anybody followed"
    ended = next(n for n, data in enumerate(log) if isinstance(data, AttemptStopped))
    followed = next(n for n, data in enumerate(log) if isinstance(data, StateChanged) and data.attempt == 2)
    assert log[ended] == AttemptStopped("handed back", left=0)
    assert ended < followed


@pytest.mark.invariant("I15")
@pytest.mark.invariant("I3")
def test_a_guard_that_stands_still_is_replaced_and_leaves_when_it_wakes(fleet: Fleet, attempts: Attempts) -> None:
    one, guard = hanging(fleet, attempts, replace(POLICY, silence=60.0))
    os.kill(guard, signal.SIGSTOP)
    try:
        assert fleet.reaches(one, State.GATING)
    finally:
        os.kill(guard, signal.SIGCONT)
    view = fleet.view(one)
    assert view is not None
    assert (view.attempt, view.failed("lost")) == (2, 1)
    assert eventually(lambda: attempts.launcher.live() == (), 20), "it saw that it is no longer wanted"
    log = [event for _, event in fleet.ledger(Role.PEOPLE).log(one.id)]
    changes = [event.attempt for event in log if isinstance(event.data, ChangeReady)]
    assert changes == [2]


def paused_store(fleet: Fleet, attempts: Attempts, server: EmbeddedRedis) -> None:
    """The store stands still for longer than silence may last; the attempt works on."""
    one = ticket(agent="command:sh -c 'sleep 6; sed -i s/x/y/ a.py'")
    fleet.start(attempts.launcher, policy=POLICY)
    fleet.accept(one)
    assert eventually(lambda: says(fleet, one, ToolStarted), 30)
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        handed = f"tickets/{one.id}/1/change.json"
        assert eventually(lambda: attempts.artifacts.get(handed) is not None, 30)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert fleet.reaches(one, State.GATING)
    view = fleet.view(one)
    assert view is not None
    assert (view.attempt, view.failures) == (1, ()), "an outage of the store restarts nobody"


@pytest.mark.invariant("I15")
@pytest.mark.invariant("I19")
def test_a_store_that_stands_still_restarts_nobody(fleet: Fleet, attempts: Attempts, server: EmbeddedRedis) -> None:
    paused_store(fleet, attempts, server)


@pytest.mark.long
def test_an_outage_that_counts_as_silence_is_noticed(
    fleet: Fleet, attempts: Attempts, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Mutant("supervisor.service:Supervisor._forgive", "deaf > DEAF_AFTER", "False").install(monkeypatch)
    with pytest.raises(AssertionError):
        paused_store(fleet, attempts, server)
