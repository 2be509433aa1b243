"""A real server for all scenarios, and a fresh world for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tests.support.hypothesis_profile  # noqa: F401 - imported for its effect
from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import FleetRedis, connect
from tests.supervisor.world import World


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="fl"))
    redis = EmbeddedRedis(folder / "home", folder / "run", SystemClock(), SystemIds())
    redis.ensure()
    yield redis
    redis.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def accounts(server: EmbeddedRedis) -> Iterator[dict[str, FleetRedis]]:
    opened = {role.value: connect(server.address, role.value, server.password(role)) for role in Role}
    yield opened
    for client in opened.values():
        client.close()


@pytest.fixture
def new_world(server: EmbeddedRedis, accounts: dict[str, FleetRedis]) -> Iterator[Callable[[], World]]:
    """Makes worlds; a mutant is put in place before its world is made."""
    made: list[World] = []

    def one() -> World:
        accounts["admin"].flushall()
        made.append(World(server, accounts))
        return made[-1]

    yield one
    for world in made:
        world.close()


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fl"))
    yield path
    shutil.rmtree(path)
