from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from tests.publisher.world import World, running_forge


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    runtime = Path(tempfile.mkdtemp(prefix="fr-"))
    server = EmbeddedRedis(tmp_path_factory.mktemp("home"), runtime, SystemClock(), SystemIds())
    server.ensure()
    yield server
    server.stop()
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def world(tmp_path: Path, redis_server: EmbeddedRedis) -> Iterator[World]:
    with running_forge(tmp_path / "forge") as forge:
        one = World(tmp_path, forge, redis_server)
        one.redis.flushall()
        yield one
        one.redis.close()
