"""Who may write what, asked of a real server: every role against every kind of key, also from inside Lua."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest

from fleet.adapters import redis_client
from fleet.adapters.acl import Role, acl_file, rules
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.redis_client import FleetRedis, PermissionDenied

S, A, T, G, P, N, H, M = (
    Role.SUPERVISOR,
    Role.AGENTS,
    Role.ATTEMPT,
    Role.GATES,
    Role.PUBLISHER,
    Role.INTAKE,
    Role.PEOPLE,
    Role.MONITOR,
)

# kind of key → who may write it. The admin may do everything and is not asked.
STREAMS = {
    "fleet:{s03}:in:intake": {N},
    "fleet:{s03}:in:attempts": {A, T},
    "fleet:{s03}:in:gates": {G},
    "fleet:{s03}:in:publisher": {P},
    "fleet:{s03}:in:people": {H},
    "fleet:{s03}:in:admission": {S},
    "fleet:{s03}:in:supervisor": set(),
    "fleet:{s03}:tell:demo-1-abc:1": {S},
    "fleet:{s03}:log:demo-1-abc": {S},
    "fleet:{s03}:quarantine": {S},
}
HASHES = {
    "fleet:{s03}:begun:agents": {A, T},
    "fleet:{s03}:begun:gates": {G},
    "fleet:{s03}:begun:publisher": {P},
    "fleet:{s03}:gates:demo-1-abc": {G},
    "fleet:{s03}:view": {S},
    "fleet:{s03}:view:demo-1-abc": set(),
    "fleet:{s03}:ver": {S},
    "fleet:{s03}:cursor": {S},
    "fleet:{s03}:outbox": {S},
    "fleet:{s03}:epoch": {S},
    "fleet:{s03}:owner": {S},
    "fleet:{s03}:deadlines": {S},
    "fleet:{s03}:cancelled": {S},
    "fleet:{s03}:sealed": {S},
    "fleet:{s03}:past": {S},
    "fleet:{s03}:approvals:demo-1-abc": {H},
    "fleet:{spend}:ticket:demo-1-abc": {Role.GATEWAY},
    "fleet:{adm}:grants": {S},
    "fleet:meta": {S},
    "fleet:members": {S},
    "fleet-broker:agents": {S, A, G, P},
    "fleet-broker:_kombu.binding.x": {S, A, G, P, M},
    "fleet:{zzz}:in:gates": set(),
    "elsewhere": set(),
}
ROLES = [role for role in Role if role is not Role.ADMIN]


@pytest.fixture(scope="module")
def clients(shared_server: EmbeddedRedis) -> Iterator[dict[Role, FleetRedis]]:
    opened = {
        role: redis_client.connect(shared_server.address, role.value, shared_server.password(role)) for role in Role
    }
    yield opened
    for client in opened.values():
        client.close()


def allowed(call: Callable[[], object]) -> bool:
    try:
        call()
    except PermissionDenied:
        return False
    except redis_client.StoreError as error:
        assert "ACL failure in script" in str(error) or "permission" in str(error).lower(), error
        return False
    return True


@pytest.mark.invariant("I5")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("key", STREAMS)
def test_a_stream_is_written_by_its_own_source_only(clients: dict[Role, FleetRedis], role: Role, key: str) -> None:
    client = clients[role]
    assert allowed(lambda: client.xadd(key, {"v": "1"})) is (role in STREAMS[key])
    script = "return redis.call('XADD', KEYS[1], '*', 'v', '1')"
    assert allowed(lambda: client.eval(script, 1, key)) is (role in STREAMS[key])
    sneaky = "return redis.call('XADD', ARGV[1], '*', 'v', '1')"
    assert allowed(lambda: client.eval(sneaky, 0, key)) is (role in STREAMS[key])


@pytest.mark.invariant("I5")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("key", HASHES)
def test_a_record_is_written_by_its_owner_only(clients: dict[Role, FleetRedis], role: Role, key: str) -> None:
    client = clients[role]
    assert allowed(lambda: client.hset(key, "f", "1")) is (role in HASHES[key])
    script = "return redis.call('HSET', KEYS[1], 'f', '1')"
    assert allowed(lambda: client.eval(script, 1, key)) is (role in HASHES[key])
    assert allowed(lambda: client.delete(key)) is (role in HASHES[key])


@pytest.mark.parametrize("role", ROLES)
def test_everybody_of_the_fleet_reads_the_record_and_the_monitor_does_not(
    clients: dict[Role, FleetRedis], role: Role
) -> None:
    assert allowed(lambda: clients[role].hget("fleet:{s03}:view", "f")) is (role is not M)
    assert allowed(lambda: clients[role].get("elsewhere")) is False


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("CONFIG", "GET", "dir"),
        ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("KEYS", "*"),
        ("CLIENT", "KILL", "ID", "1"),
        ("SCRIPT", "FLUSH"),
        ("FUNCTION", "FLUSH"),
        ("LATENCY", "RESET"),
        ("REPLICAOF", "NO", "ONE"),
        ("MONITOR",),
    ],
)
def test_no_role_has_a_dangerous_command(clients: dict[Role, FleetRedis], role: Role, command: tuple[str, ...]) -> None:
    assert not allowed(lambda: clients[role].execute_command(*command))


def test_the_supervisor_acknowledges_and_trims_a_stream_it_cannot_add_to(clients: dict[Role, FleetRedis]) -> None:
    key, supervisor = "fleet:{s04}:in:gates", clients[S]
    clients[G].xadd(key, {"v": "1"})
    supervisor.xgroup_create(key, "shard", id="0")
    entry = cast("Any", supervisor.xreadgroup("shard", "me", {key: ">"}))[0][1][0][0]
    step = (
        "redis.call('HSET', KEYS[1], 'f', '1') redis.call('XACK', KEYS[2], 'shard', ARGV[1]) "
        "return redis.call('XDEL', KEYS[2], ARGV[1])"
    )
    assert supervisor.eval(step, 2, "fleet:{s04}:view", key, entry) == 1
    assert supervisor.xlen(key) == 0
    assert not allowed(lambda: clients[A].xtrim(key, 0))


@pytest.mark.parametrize("key", ["begun:agents", "begun:gates", "gates:demo-1-abc", "approvals:demo-1-abc"])
def test_the_supervisor_takes_away_what_it_cannot_write(clients: dict[Role, FleetRedis], key: str) -> None:
    name = f"fleet:{{s09}}:{key}"
    for role in ROLES:
        clients[Role.ADMIN].hset(name, "f", "1")
        may = allowed(partial(clients[role].hdel, name, "f")) and allowed(partial(clients[role].unlink, name))
        assert may is (role is S or role in HASHES[f"fleet:{{s03}}:{key}"])
    for call in (partial(clients[S].hset, name, "f", "1"), partial(clients[S].hincrby, name, "f", 1)):
        assert not allowed(call)
    assert not allowed(lambda: clients[S].unlink("fleet:{s09}:in:gates"))


def test_a_claim_checks_what_it_may_only_read(clients: dict[Role, FleetRedis]) -> None:
    claim = (
        "if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 0 end "
        "return redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])"
    )
    keys = ("fleet:{s05}:begun:agents", "fleet:{s05}:cancelled")
    assert clients[T].eval(claim, 2, *keys, "demo-1-abc", "demo-1-abc:1", "me") == 1
    clients[S].sadd(keys[1], "demo-1-abc")
    assert clients[T].eval(claim, 2, *keys, "demo-1-abc", "demo-1-abc:2", "me") == 0


def test_without_a_password_there_is_no_way_in(shared_server: EmbeddedRedis) -> None:
    nobody = redis_client.connect(shared_server.address, "supervisor")
    wrong = redis_client.connect(shared_server.address, "supervisor", "wrong")
    for client in (nobody, wrong):
        with pytest.raises(redis_client.StoreError) as refused:
            client.ping()
        assert not redis_client.is_connection_error(refused.value)
        client.close()


def test_mutant_a_wider_rule_lets_the_forgery_through(clients: dict[Role, FleetRedis]) -> None:
    """The table would notice: one more pattern for the agents, and a forged gate record is accepted."""
    admin, forged = clients[Role.ADMIN], "fleet:{s06}:gates:demo-1-abc"
    assert not allowed(lambda: clients[A].hset(forged, "lint", "passed"))
    admin.execute_command("ACL", "SETUSER", "agents", "~fleet:*")
    assert allowed(lambda: clients[A].hset(forged, "lint", "passed"))
    admin.execute_command("ACL", "LOAD")
    assert not allowed(lambda: clients[A].hset(forged, "lint", "passed"))


def test_the_file_holds_no_password_and_ends_with_the_default_user_off() -> None:
    passwords = {role.value: f"secret-of-{role.value}" for role in Role}
    text = acl_file(passwords)
    assert "secret-of" not in text
    assert text.startswith("user default off")
    assert all("nopass" not in rules(role) for role in Role)


@pytest.mark.invariant("I3")
def test_the_ledgers_own_scripts_run_in_their_role_only(clients: dict[Role, FleetRedis]) -> None:
    lease, begin = redis_client.load_lua("lease"), redis_client.load_lua("begin")
    owned = ["fleet:{s07}:owner", "fleet:{s07}:epoch"]
    epoch, new = clients[S].register_script(lease)(keys=owned, args=["me", 60_000])
    assert epoch > 0 and new
    effect, ticket = "demo-1-abc:start:1:0:0", "demo-1-abc"
    clients[S].hset("fleet:{s07}:outbox", effect, "order")
    begun = ["fleet:{s07}:begun:agents", "fleet:{s07}:outbox", "fleet:{s07}:cancelled"]
    order = [effect, ticket, "me", "0"]
    for role in (P, G, N, H, M):
        assert not allowed(partial(clients[role].register_script(begin), keys=begun, args=order))
    assert clients[T].register_script(begin)(keys=begun, args=order) == 1
    other = ["fleet:{s08}:owner", "fleet:{s08}:epoch"]
    for role in (A, T, P, G, N, H, M):
        assert not allowed(partial(clients[role].register_script(lease), keys=other, args=["x", 1000]))
