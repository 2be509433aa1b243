"""The store's folder is removed under its server: that one is ended, and another with the same accounts starts."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import connect
from fleet.core.errors import UsageError
from tests.support.wait import eventually


@pytest.fixture
def redis() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="fl"))
    server = EmbeddedRedis(folder / "home", folder / "run", SystemClock(), SystemIds())
    server.ensure()
    yield server
    server.stop()
    shutil.rmtree(folder)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return False


@pytest.mark.invariant("I1")
@pytest.mark.parametrize("what", ["the folder", "what is in it"])
def test_a_server_without_its_files_is_replaced(redis: EmbeddedRedis, what: str) -> None:
    people = connect(redis.address, "people", redis.password(Role.PEOPLE), retries=0)
    old = redis.pid()
    assert old is not None and people.ping()
    if what == "the folder":
        shutil.rmtree(redis.data)
    else:
        for path in redis.data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not redis.running()
    redis.ensure()
    assert redis.running() and redis.pid() != old
    assert eventually(lambda: not alive(old))
    assert connect(redis.address, "people", redis.password(Role.PEOPLE)).ping()
    assert people.ping(), "who was there before comes in with the password it knows"
    people.close()


def test_a_stranger_on_the_socket_is_left_alone(redis: EmbeddedRedis) -> None:
    redis.stop()
    shutil.rmtree(redis.data)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(redis.socket))
        listener.listen()
        with pytest.raises(UsageError, match=f"served by process {os.getpid()}"):
            redis.ensure()
    redis.socket.unlink()
