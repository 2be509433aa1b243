"""Two supervisor processes share the shards: one is killed or drains, the other goes on, and nothing is done twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters import keys
from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.fork import die_with, fork
from fleet.adapters.ids import SystemDice
from fleet.adapters.redis_client import connect
from fleet.adapters.shard_store import ShardStore
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import StateChanged
from fleet.core.states import State
from fleet.core.ticket import all_shards
from supervisor.admission import Caps
from supervisor.fold import fold_all
from supervisor.policy import Policy
from supervisor.service import Supervisor
from tests.supervisor.world import Server, World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually

MANY = 1000
ENTITIES = (*all_shards(), keys.ADMISSION)
WORKERS = ("start", "gates", "publish")


class Line:
    """A broker of one file: what a supervisor process wakes, the test reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        path.touch()

    def wake(self, effect: Effect) -> None:
        row = f"{effect.kind.value} {effect.ticket} {effect.attempt} {effect.round} {effect.turn}\n"
        with self._path.open("a") as file:
            file.write(row)

    def woken(self) -> list[Effect]:
        """What was woken since the last call."""
        rows = self._path.read_text().splitlines()
        fresh, self._read = rows[self._read :], len(rows)
        words = [row.split() for row in fresh]
        return [Effect(EffectKind(kind), name, int(a), int(r), int(t)) for kind, name, a, r, t in words]


class Pair:
    """Supervisor processes by name, on one store."""

    def __init__(self, world: World, server: Server, line: Line) -> None:
        self.world = world
        self.line = line
        self._server = server
        self.pids: dict[str, int] = {}

    def start(self, name: str) -> None:
        parent = os.getpid()

        def child() -> None:
            die_with(parent)
            stop: list[int] = []
            signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
            client = connect(self._server.address, "supervisor", self._server.password(Role.SUPERVISOR))
            store = ShardStore(client, name)
            store.open("incarnation-1")
            caps = Caps(MANY, MANY, MANY, MANY)
            Supervisor(store, self.line, SystemClock(), SystemDice(), Policy(rewake_after=1.0), caps).run(
                lambda: bool(stop)
            )

        self.pids[name] = fork(child)

    def end(self, name: str, how: signal.Signals) -> None:
        pid = self.pids.pop(name)
        os.kill(pid, how)
        os.waitpid(pid, 0)

    def shares(self) -> Counter[str]:
        """How many entities each supervisor owns."""
        found: Any = self.world.clients["admin"].mget([keys.of(name, "owner") for name in ENTITIES])
        return Counter(raw.decode() for raw in found if raw)

    def owns_all(self, name: str) -> bool:
        return self.shares() == {name: len(ENTITIES)}

    def close(self) -> None:
        for name in list(self.pids):
            with suppress(ProcessLookupError):
                self.end(name, signal.SIGKILL)


@contextmanager
def pair_of(world: World, server: Server, folder: Path) -> Iterator[Pair]:
    pair = Pair(world, server, Line(folder / "woken"))
    try:
        yield pair
    finally:
        pair.close()


def in_review(pair: Pair, count: int, meanwhile: Callable[[int], None] = lambda _: None) -> bool:
    """Workers act until ``count`` tickets are in review; ``meanwhile`` is told how many orders they have begun."""
    world, begun = pair.world, 0

    def once() -> bool:
        nonlocal begun
        for effect in pair.line.woken():
            if effect.kind.value in WORKERS and world.players.act(effect):
                begun += 1
                meanwhile(begun)
        return sum(view.state is State.IN_REVIEW for view in world.ledgers["people"].views()) == count

    return eventually(once, 60)


def nothing_was_done_twice(world: World, count: int) -> None:
    passed = {State.STARTING, State.GATING, State.PUBLISHING, State.IN_REVIEW}
    for view in world.ledgers["people"].views():
        log = [event for _, event in world.ledgers["people"].log(view.id)]
        moves = Counter(event.data.state for event in log if isinstance(event.data, StateChanged))
        # An attempt that said all at once was never seen running.
        assert set(moves) - {State.RUNNING} == passed and set(moves.values()) == {1}, f"{view.id}: {moves}"
        assert sum(event.kind == "Published" for event in log) == 1
        assert fold_all(log) == view
        assert (view.attempt, view.failures) == (1, ())
    assert len(list(world.ledgers["people"].views())) == count


def owners_are_killed(world: World, server: Server, folder: Path, count: int = 30) -> None:
    """The owner of everything is killed in the middle of the work, twice; each time another process takes over."""
    kills = 0
    with pair_of(world, server, folder) as pair:
        pair.start("first")
        assert eventually(lambda: pair.owns_all("first"))
        pair.start("second")
        for number in range(count):
            world.players.accept(ticket(number + 1))

        def kill(begun: int) -> None:
            """In the middle of the starts, and in the middle of the gates."""
            nonlocal kills
            if kills < 2 and begun > count * kills + count // 2:
                owner, successor = [("first", "third"), ("second", "fourth")][kills]
                pair.end(owner, signal.SIGKILL)
                pair.start(successor)
                kills += 1
                for number in range(count):
                    world.players.accept(ticket(number + 1))  # delivered once more, to whoever takes over

        assert in_review(pair, count, kill), pair.shares()
        assert kills == 2
        assert eventually(lambda: set(pair.shares()) == {"third", "fourth"} and sum(pair.shares().values()) == 17)
        nothing_was_done_twice(world, count)


@pytest.mark.invariant("I6")
@pytest.mark.invariant("I3")
def test_killed_owners_cost_time_and_nothing_else(world: World, server: Server, tmp_path: Path) -> None:
    owners_are_killed(world, server, tmp_path)


@pytest.mark.invariant("I18")
def test_a_supervisor_that_joins_gets_its_share_and_one_that_drains_gives_it_back(
    world: World, server: Server, tmp_path: Path
) -> None:
    with pair_of(world, server, tmp_path) as pair:
        pair.start("first")
        assert eventually(lambda: pair.owns_all("first"))
        pair.start("second")
        assert eventually(lambda: sorted(pair.shares().values()) == [8, 9]), "the second one gets its half"
        for number in range(10):
            world.players.accept(ticket(number + 1))
        assert in_review(pair, 10)
        pair.end("first", signal.SIGTERM)
        assert "first" not in pair.shares(), "its leases did not have to run out"
        assert eventually(lambda: pair.owns_all("second"))
        nothing_was_done_twice(world, 10)


def test_a_drain_that_keeps_its_leases_is_noticed(
    world: World, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Mutant("supervisor.service:Supervisor.run", "self.leave()", "pass").install(monkeypatch)
    with pair_of(world, server, tmp_path) as pair:
        pair.start("first")
        assert eventually(lambda: pair.owns_all("first"))
        pair.end("first", signal.SIGTERM)
        assert pair.shares()["first"] == len(ENTITIES)
