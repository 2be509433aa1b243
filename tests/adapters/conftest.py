"""Real servers for the adapter tests: one private home per test, stopped afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A short folder for sockets: pytest's own paths can be longer than a socket's may be."""
    path = Path(tempfile.mkdtemp(prefix="fr-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(tmp_path: Path, runtime: Path) -> Iterator[EmbeddedRedis]:
    redis = EmbeddedRedis(tmp_path / "home", runtime, SystemClock(), SystemIds())
    yield redis
    redis.stop()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One running server for tests that only look at it or use keys of their own."""
    runtime = Path(tempfile.mkdtemp(prefix="fr-"))
    redis = EmbeddedRedis(tmp_path_factory.mktemp("home"), runtime, SystemClock(), SystemIds())
    redis.ensure()
    yield redis
    redis.stop()
    shutil.rmtree(runtime, ignore_errors=True)
