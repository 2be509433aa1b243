"""Real attempts that are cut off from the ledger: they work on, and hand over if nobody took their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import workers.voice
from fleet.adapters.acl import Role
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ledger import RedisAttemptChannel, RedisLedger
from fleet.adapters.redis_client import connect
from fleet.adapters.slots import remove_tree
from fleet.chaos.proxy import Fault, Proxy, to_socket
from fleet.core.events import AttemptStarted, ChangeReady, ToolStarted
from fleet.core.states import State
from fleet.core.ticket import Ticket
from supervisor.policy import Policy
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually
from tests.workers.kit import Attempts, make_repo
from tests.workers.test_ledger import Fleet, fleet, server

pytestmark = pytest.mark.needs("bwrap")

__all__ = ["fleet", "server"]
BEAT = 0.4
POLICY = Policy(lost_after=4.0, silence=60.0, rewake_after=1.0)
FIRST_WAITS = "command:sh -c 'sleep 3; sed -i s/x/y/ a.py'"


class Cut:
    """Attempts whose guards reach the store through a proxy, until ``direct`` exists: later guards go straight."""

    def __init__(self, home: Path, source: Path, server: EmbeddedRedis) -> None:
        address = server.address
        assert address.socket is not None
        behind = replace(address, socket=address.socket.with_name("cut.sock"))
        self.direct = home.parent / "direct"
        self.attempts = Attempts(home, source)

        def channel() -> RedisAttemptChannel:
            where = address if self.direct.exists() else behind
            client = connect(where, "attempt", server.password(Role.ATTEMPT), socket_timeout=1.0, retries=0)
            return RedisAttemptChannel(RedisLedger(client))

        self.attempts.make_channel = channel
        self.attempts.serve()  # forks; the proxy's threads come after it
        self.proxy = Proxy(to_socket(address.socket), behind.socket)


@pytest.fixture
def cut(tmp_path: Path, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:
    """Ten times as many heartbeats as usual, so that silence is short."""
    monkeypatch.setattr(workers.voice, "HEARTBEAT_S", BEAT)
    monkeypatch.setattr(workers.voice, "_LOOK_S", BEAT)
    made = Cut(tmp_path / "home", make_repo(tmp_path / "source", {"a.py": b"x = 1\n"}), server)
    yield made
    made.proxy.close()
    made.attempts.close()
    remove_tree(made.attempts.layout.work)
    remove_tree(made.attempts.layout.runtime)


def says(fleet: Fleet, one: Ticket, kind: type, attempt: int) -> int:
    log = fleet.ledger(Role.PEOPLE).log(one.id)
    return sum(isinstance(event.data, kind) and event.attempt == attempt for _, event in log)


def counted_as_lost(fleet: Fleet, cut: Cut, one: Ticket) -> None:
    """Cut off at work, until the supervisor gave it up; meanwhile it finishes and nobody hears of it."""
    fleet.start(cut.attempts.launcher, policy=POLICY)
    fleet.accept(one)
    assert eventually(lambda: says(fleet, one, ToolStarted, 1), 30)
    cut.proxy.fail(Fault.REFUSE)
    fleet.tasks = None  # nobody takes the next attempt
    assert eventually(lambda: (view := fleet.view(one)) is not None and view.attempt == 2, 30)


def back_in_time(fleet: Fleet, cut: Cut) -> None:
    one = ticket(agent=FIRST_WAITS)
    counted_as_lost(fleet, cut, one)
    assert eventually(lambda: cut.attempts.artifacts.get(f"tickets/{one.id}/1/change.json") is not None, 30)
    cut.proxy.mend()
    assert fleet.reaches(one, State.GATING)
    view = fleet.view(one)
    assert view is not None
    assert (view.attempt, view.failed("lost"), view.slot) == (1, 1, 0)
    assert view.change is not None and view.change.bundle.startswith(f"tickets/{one.id}/1/")
    assert not fleet.ledger(Role.ATTEMPT).claim(one.id, 2, "its successor")
    assert eventually(lambda: cut.attempts.launcher.live() == (), 20)


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I19")
def test_an_attempt_that_was_cut_off_hands_over_when_nobody_took_its_place(fleet: Fleet, cut: Cut) -> None:
    back_in_time(fleet, cut)


@pytest.mark.invariant("I3")
def test_one_that_is_back_and_still_at_work_may_finish(fleet: Fleet, cut: Cut) -> None:
    """It was given up while it worked; nobody took its place, so it goes on and hands over."""
    one = ticket(agent="command:sh -c 'sleep 9; sed -i s/x/y/ a.py'")
    counted_as_lost(fleet, cut, one)
    assert cut.attempts.artifacts.get(f"tickets/{one.id}/1/change.json") is None, "it still works"
    cut.proxy.mend()
    assert fleet.reaches(one, State.GATING)
    view = fleet.view(one)
    assert view is not None and view.attempt == 1


@pytest.mark.invariant("I3")
def test_one_that_is_back_too_late_stops_itself_and_changes_nothing(fleet: Fleet, cut: Cut) -> None:
    """Its successor was claimed on a line that holds."""
    one = ticket(agent="command:sh -c 'sleep 20; sed -i s/x/y/ a.py'")
    fleet.start(cut.attempts.launcher, policy=POLICY)
    fleet.accept(one)
    assert eventually(lambda: says(fleet, one, ToolStarted, 1), 30)
    (first,) = cut.attempts.launcher.live()
    cut.direct.touch()
    cut.proxy.fail(Fault.REFUSE)
    assert eventually(lambda: says(fleet, one, AttemptStarted, 2), 30)
    cut.proxy.mend()
    assert eventually(lambda: first not in cut.attempts.launcher.live(), 20), "it saw that it was overtaken"
    fleet.cancel(one)
    assert fleet.reaches(one, State.CANCELLED)
    assert says(fleet, one, ChangeReady, 1) == 0


@pytest.mark.long
def test_one_that_does_not_wait_is_noticed(fleet: Fleet, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("supervisor.late:hand_over", "if view.late.change is None:", "if True:").install(monkeypatch)
    with pytest.raises(AssertionError):
        back_in_time(fleet, cut)
