from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import FleetRedis, connect
from tests.intake.room import Room
from tests.intake.talk import Talk
from tests.publisher.conftest import world
from tests.publisher.world import REPO, World

__all__ = ["admin", "ledger", "redis_server", "talk", "world"]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    runtime = Path(tempfile.mkdtemp(prefix="fr-"))
    server = EmbeddedRedis(tmp_path_factory.mktemp("home"), runtime, SystemClock(), SystemIds())
    server.ensure()
    yield server
    server.stop()
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def admin(redis_server: EmbeddedRedis) -> Iterator[FleetRedis]:
    client = connect(redis_server.ensure(), "admin", redis_server.password(Role.ADMIN))
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def ledger(redis_server: EmbeddedRedis, admin: FleetRedis) -> Iterator[RedisLedger]:
    """With the rights of intake and no others."""
    client = connect(redis_server.ensure(), "intake", redis_server.password(Role.INTAKE))
    yield RedisLedger(client)
    client.close()


@pytest.fixture
def talk(world: World) -> Iterator[Talk]:
    room = Room(world)
    world.forge.store.ensure_user("stranger")
    world.forge.store.set_permission(REPO, "stranger", "read")
    made = Talk(room)
    yield made
    made.client.close()
