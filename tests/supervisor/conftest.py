"""A real server, one client per role, a virtual clock, and supervisors that a test drives turn by turn."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import FleetRedis, connect
from fleet.adapters.shard_store import ShardStore
from supervisor.admission import Caps
from supervisor.policy import Policy
from supervisor.service import Supervisor
from tests.support.clock import FixedDice, VirtualClock
from tests.support.players import Players


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="fl"))
    redis = EmbeddedRedis(folder / "home", folder / "run", SystemClock(), SystemIds())
    redis.ensure()
    yield redis
    redis.stop()
    shutil.rmtree(folder)


@pytest.fixture
def clients(server: EmbeddedRedis) -> Iterator[dict[str, FleetRedis]]:
    opened = {role.value: connect(server.address, role.value, server.password(role)) for role in Role}
    opened["admin"].flushall()
    yield opened
    for client in opened.values():
        client.close()


@pytest.fixture
def ledgers(clients: dict[str, FleetRedis]) -> dict[str, RedisLedger]:
    return {role: RedisLedger(client) for role, client in clients.items()}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def players(ledgers: dict[str, RedisLedger], clock: VirtualClock) -> Players:
    return Players(ledgers, clock)


@pytest.fixture
def make(
    server: EmbeddedRedis, clients: dict[str, FleetRedis], clock: VirtualClock, players: Players
) -> Callable[..., Supervisor]:
    def make_one(name: str = "one", caps: Caps | None = None, policy: Policy | None = None) -> Supervisor:
        client = connect(server.address, "supervisor", server.password(Role.SUPERVISOR))
        store = ShardStore(client, name)
        store.open("incarnation-1")
        return Supervisor(store, players, clock, FixedDice(), policy or Policy(), caps or Caps())

    return make_one
