"""The store's server dies and a replica takes its place: the fleet goes on by itself, and asks for what was lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fleet.adapters import redis_client
from fleet.adapters.acl import Role
from fleet.adapters.redis_client import FleetRedis, connect
from fleet.core.codec import decode
from fleet.core.commands import Command, CommandKind
from fleet.core.errors import TemporaryError
from fleet.core.events import AgentStarted, AttemptStopped, EventData, Note, Source
from fleet.core.states import State
from supervisor.fold import fold_all
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.players import CHANGE
from tests.support.replicas import Replicated, replicated
from tests.support.tickets import ticket
from tests.support.wait import eventually

# Seconds until nobody is expected to ask any more.
PATIENCE = 30.0


@contextmanager
def world_on(store: Replicated) -> Iterator[World]:
    clients: dict[str, FleetRedis] = {role.value: connect(store.address, role.value) for role in Role}
    world = World(store, clients)
    try:
        yield world
    finally:
        world.close()
        for client in clients.values():
            client.close()


def works(world: World, supervisor: Supervisor, done: Callable[[], bool]) -> bool:
    """Passes of the supervisor until ``done``; while the store is away it waits, on the virtual clock."""

    def once() -> bool:
        world.clock.advance(0.3)
        pause = supervisor.once(0)
        if pause:
            world.clock.advance(pause)
            return False
        with suppress(TemporaryError):
            return done()
        return False

    return eventually(once, 60)


@pytest.mark.slow
@pytest.mark.invariant("I19")
def test_behind_a_sentinel_the_fleet_outlives_its_store(tmp_path: Path) -> None:
    """The master is killed; the sentinel promotes the replica, and nobody has to tell the fleet."""
    with replicated(tmp_path) as store, world_on(store) as world:
        supervisor, wanted = world.make(), ticket()
        world.running(supervisor, wanted)
        assert eventually(store.caught_up)
        store.kill("master")
        assert works(world, supervisor, lambda: world.seen(wanted).state is State.RUNNING)
        assert store.info("replica")["role"] == "master"

        world.players.attempt_says(wanted.id, 1, CHANGE, AttemptStopped("done"))

        def finished() -> bool:
            world.players.act_all()
            return world.seen(wanted).state is State.IN_REVIEW

        assert works(world, supervisor, finished)
        view = world.seen(wanted)
        assert (view.attempt, view.failures) == (1, ()), "nothing was done twice for it"
        log = [event for _, event in world.ledgers["people"].log(wanted.id)]
        assert sum(event.kind == "Published" for event in log) == 1
        assert fold_all(log) == view


def a_lagging_replica_is_promoted(folder: Path) -> None:
    """What the attempt said last was written by a server that is gone, and nothing but the attempt knows it."""
    with replicated(folder, watched=False) as store, world_on(store) as world:
        supervisor, wanted = world.make(), ticket()
        world.running(supervisor, wanted)
        said: list[EventData] = [
            AgentStarted("command:true", "landlock"),
            *(Note(f"word {number}") for number in range(5)),
        ]
        world.players.attempt_says(wanted.id, 1, *said[:2])
        world.turns(supervisor, 2)
        assert eventually(store.caught_up)
        with store.client("replica") as client:
            client.replicaof("NO", "ONE")  # from now on it lags
        known = world.seen(wanted)
        world.players.attempt_says(wanted.id, 1, *said[2:])
        world.turns(supervisor, 2)
        assert world.seen(wanted).seq > known.seq
        store.kill("master")
        store.promote()
        assert works(world, supervisor, lambda: world.seen(wanted).seq == known.seq), "the last words are lost"
        world.turns(supervisor, 3)
        asked = [decode(raw, Command) for _, raw in world.ledgers["attempt"].commands(wanted.id, 1, "0", 0)]
        wanted_from = [command.seq for command in asked if command.kind is CommandKind.RESEND]
        assert wanted_from == [known.seq + 1], "the attempt is asked for them, once"
        for seq, data in enumerate(said, 2):
            if seq > known.seq:
                world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, data, seq)
        world.turns(supervisor, 2)
        view = world.seen(wanted)
        assert (view.state, view.attempt, view.seq, view.activity) == (State.RUNNING, 1, 7, "word 4")
        assert fold_all([event for _, event in world.ledgers["people"].log(wanted.id)]) == view
        # Silence is counted anew: a worker that says nothing is lost after as long as ever, not sooner.
        world.turns(supervisor, 25, seconds=1)
        assert world.seen(wanted).failures == ()


@pytest.mark.slow
@pytest.mark.invariant("I14")
@pytest.mark.invariant("I19")
def test_a_store_with_another_history_is_a_recovery(tmp_path: Path) -> None:
    a_lagging_replica_is_promoted(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "old", "new"),
    [
        ("supervisor.service:Supervisor._recognise", "self._drop_all()", "pass"),
        ("supervisor.shard:ShardKeeper.recover", "if lost_a_second(known, now):", "if False:"),
    ],
)
def test_a_recovery_that_is_left_out_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, old: str, new: str
) -> None:
    Mutant(where, old, new).install(monkeypatch)
    with pytest.raises(AssertionError):
        a_lagging_replica_is_promoted(tmp_path)


def what_is_promised_stands_on_the_replica(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promise is made when the replica has it; one that stands still is waited for, but not for ever."""
    with replicated(folder) as store, world_on(store) as world:
        client = world.clients["attempt"]
        store.signal("replica", signal.SIGSTOP)
        client.set("fleet:claimed", 1)
        redis_client.wait_aof(client)
        monkeypatch.setattr(redis_client, "REPLICA_MS", 60_000)
        went_on = threading.Event()

        def wake() -> None:
            """When somebody waits for the replica, it goes on."""
            with store.client("master") as master:
                if eventually(lambda: any(one["cmd"] == "wait" for one in master.client_list()), PATIENCE):
                    went_on.set()
            store.signal("replica", signal.SIGCONT)

        waking = threading.Thread(target=wake)
        client.set("fleet:claimed", 2)
        waking.start()
        redis_client.wait_aof(client)
        assert went_on.is_set(), "it was promised before the replica had it"
        waking.join()
        with store.client("replica") as replica:
            assert replica.get("fleet:claimed") == b"2"


@pytest.mark.slow
@pytest.mark.invariant("I1")
def test_what_is_promised_behind_a_sentinel_outlives_its_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what_is_promised_stands_on_the_replica(tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_promise_before_the_replica_has_it_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.test_failover.PATIENCE", 3.0)
    one = Mutant("fleet.adapters.redis_client:wait_aof", 'if getattr(client, "replicas", 0):', "if False:")
    one.install(monkeypatch)
    with pytest.raises(AssertionError, match="promised before"):
        what_is_promised_stands_on_the_replica(tmp_path, monkeypatch)
