"""Attempts against the real record: a real server, a real supervisor, the real channel and the agents task."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fleet.adapters.acl import Role
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemDice, SystemIds
from fleet.adapters.ledger import RedisAttemptChannel, RedisLedger
from fleet.adapters.redis_client import connect
from fleet.adapters.shard_store import ShardStore
from fleet.adapters.slots import remove_tree
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import TemporaryError
from fleet.core.events import CancelRequested, ChangeReady, Envelope, Source, TicketAccepted
from fleet.core.ports import Launcher
from fleet.core.states import State
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from supervisor.admission import Caps
from supervisor.policy import Policy
from supervisor.service import Supervisor
from tests.support.tickets import ticket
from tests.support.wait import eventually
from tests.workers.kit import CLOCK, Attempts, make_repo
from workers.null import NullLauncher
from workers.tasks import AgentTasks

pytestmark = pytest.mark.needs("bwrap")


class Fleet:
    """The real supervisor in a thread; wake-ups become tasks in threads, each delivered ``copies`` times."""

    def __init__(self, server: EmbeddedRedis, copies: int = 1) -> None:
        self._server = server
        self._copies = copies
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.tasks: AgentTasks | None = None
        self.incarnation = SystemIds().hex(8)

    def ledger(self, role: Role) -> RedisLedger:
        return RedisLedger(connect(self._server.address, role.value, self._server.password(role)))

    def start(self, launcher: Launcher, lost_after: float = 30.0, policy: Policy | None = None) -> None:
        self.tasks = AgentTasks(self.ledger(Role.AGENTS), launcher, CLOCK, "here", self._stop.is_set)
        store = ShardStore(
            connect(self._server.address, "supervisor", self._server.password(Role.SUPERVISOR)), SystemIds().hex(6)
        )
        store.open(self.incarnation)
        supervisor = Supervisor(store, self, CLOCK, SystemDice(), policy or Policy(lost_after=lost_after), Caps())
        self._run(lambda: supervisor.run(self._stop.is_set))

    def wake(self, effect: Effect) -> None:
        tasks = self.tasks
        if effect.kind is EffectKind.START_ATTEMPT and tasks is not None:
            for _ in range(self._copies):
                self._run(lambda: self._attempt(tasks, effect))

    def _attempt(self, tasks: AgentTasks, effect: Effect) -> None:
        """As under Celery: a task that fails is forgotten, and the supervisor wakes again."""
        with suppress(TemporaryError):
            tasks.attempt(effect.ticket, effect.attempt, effect.round)

    def accept(self, one: Ticket) -> None:
        event = Envelope(one.tenant, one.id, 0, 0, CLOCK.now(), TicketAccepted(one), Source.INTAKE)
        self.ledger(Role.INTAKE).send(Source.INTAKE, [event], durable=True)

    def cancel(self, one: Ticket) -> None:
        event = Envelope(one.tenant, one.id, 0, 0, CLOCK.now(), CancelRequested("me"), Source.PEOPLE)
        self.ledger(Role.PEOPLE).send(Source.PEOPLE, [event])

    def view(self, one: Ticket) -> TicketView | None:
        return self.ledger(Role.PEOPLE).view(one.id)

    def reaches(self, one: Ticket, state: State, seconds: float = 40.0) -> bool:
        there = eventually(lambda: (view := self.view(one)) is not None and view.state is state, seconds, every=0.1)
        if not there:
            print(self.view(one))
            for _, event in self.ledger(Role.PEOPLE).log(one.id):
                print(f"{event.at:.1f} {event.source.value} {event.attempt} {event.data}"[:200])
        return there

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="fw"))
    redis = EmbeddedRedis(folder / "home", folder / "run", CLOCK, SystemIds())
    redis.ensure()
    yield redis
    redis.stop()
    shutil.rmtree(folder)


@pytest.fixture
def attempts(tmp_path: Path, server: EmbeddedRedis) -> Iterator[Attempts]:
    made = Attempts(tmp_path / "home", make_repo(tmp_path / "source", {"a.py": b"x = 1\n"}))

    def channel() -> RedisAttemptChannel:
        return RedisAttemptChannel(RedisLedger(connect(server.address, "attempt", server.password(Role.ATTEMPT))))

    made.make_channel = channel
    made.serve()
    yield made
    made.close()
    remove_tree(made.layout.work)
    remove_tree(made.layout.runtime)


@pytest.fixture
def fleet(server: EmbeddedRedis) -> Iterator[Fleet]:
    made = Fleet(server, copies=3)
    yield made
    made.close()


@pytest.mark.invariant("I3")
def test_a_ticket_goes_from_acceptance_to_its_gates_with_one_claim(fleet: Fleet, attempts: Attempts) -> None:
    one = ticket(agent="command:sed -i s/x/y/ a.py")
    fleet.start(attempts.launcher)
    fleet.accept(one)
    assert fleet.reaches(one, State.GATING)
    log = [event for _, event in fleet.ledger(Role.PEOPLE).log(one.id)]
    mine = [event for event in log if event.source is Source.ATTEMPTS]
    assert [event.kind for event in mine].count("AttemptStarted") == 1
    assert [event.seq for event in mine] == list(range(1, len(mine) + 1))
    view = fleet.view(one)
    assert view is not None
    assert view.change is not None
    assert attempts.artifacts.path(view.change.bundle) is not None


def test_a_cancelled_ticket_ends_its_attempt(fleet: Fleet, attempts: Attempts) -> None:
    one = ticket(agent="command:sleep 3456")
    fleet.start(attempts.launcher)
    fleet.accept(one)
    assert fleet.reaches(one, State.RUNNING)
    fleet.cancel(one)
    assert fleet.reaches(one, State.CANCELLED)
    assert eventually(lambda: attempts.launcher.live() == (), 20)


@pytest.mark.invariant("I6")
def test_a_killed_guard_is_followed_by_the_next_attempt(fleet: Fleet, attempts: Attempts) -> None:
    one = ticket(agent="command:sh -c 'sleep 2; sed -i s/x/y/ a.py'")
    fleet.start(attempts.launcher, lost_after=7.0)  # a little more than a heartbeat
    fleet.accept(one)
    assert fleet.reaches(one, State.RUNNING)
    (live,) = attempts.launcher.live()
    os.kill(live.pid, signal.SIGKILL)
    assert fleet.reaches(one, State.GATING, 60)
    view = fleet.view(one)
    assert view is not None
    assert view.attempt == 2
    assert view.failed("lost") == 1


@pytest.mark.invariant("I19")
def test_a_killed_store_costs_time_and_nothing_else(fleet: Fleet, attempts: Attempts, server: EmbeddedRedis) -> None:
    one = ticket(agent="command:sh -c 'sleep 3; sed -i s/x/y/ a.py'")
    fleet.start(attempts.launcher)
    fleet.accept(one)
    assert fleet.reaches(one, State.RUNNING)
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not server.running())
    assert eventually(lambda: attempts.artifacts.get(f"tickets/{one.id}/1/change.json") is not None, 20)
    server.ensure()
    assert fleet.reaches(one, State.GATING, 60)
    view = fleet.view(one)
    assert view is not None
    assert view.attempt == 1


def test_a_forged_wake_up_starts_nothing(fleet: Fleet, attempts: Attempts) -> None:
    one = ticket(agent="command:sed -i s/x/y/ a.py")
    fleet.start(attempts.launcher)
    assert fleet.tasks is not None
    assert fleet.tasks.attempt("no-such-1-abc", 1) == "not wanted"
    fleet.accept(one)
    assert fleet.reaches(one, State.GATING)
    assert eventually(lambda: attempts.launcher.live() == ())
    assert fleet.tasks.attempt(one.id, 1) == "not wanted"
    assert fleet.tasks.attempt(one.id, 2) == "not wanted"
    assert attempts.launcher.live() == ()


def test_null_attempts_pass_every_state_up_to_the_gates(fleet: Fleet, server: EmbeddedRedis) -> None:
    one = ticket(agent="command:true")
    channel = RedisAttemptChannel(fleet.ledger(Role.ATTEMPT))
    fleet.start(NullLauncher(channel, CLOCK, SystemIds(), lambda: fleet.incarnation))
    fleet.accept(one)
    assert fleet.reaches(one, State.GATING)
    kinds = [event.kind for _, event in fleet.ledger(Role.PEOPLE).log(one.id)]
    assert kinds.count(ChangeReady.__name__) == 1
