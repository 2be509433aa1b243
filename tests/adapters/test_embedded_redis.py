"""The embedded server on real processes: found again, killed, cut off, strangers, other people's folders."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fleet.adapters import redis_client
from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import FleetRedis, connect, wait_aof
from fleet.core.errors import FleetError, ParkError, TemporaryError, UsageError
from tests.support.wait import eventually


def client_of(server: EmbeddedRedis, role: Role = Role.SUPERVISOR) -> FleetRedis:
    return connect(server.address, role.value, server.password(role))


def kill(server: EmbeddedRedis) -> None:
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not server.running(), 30)


def again(server: EmbeddedRedis, fsync: str = "everysec") -> EmbeddedRedis:
    return EmbeddedRedis(server.home, server.socket.parent, SystemClock(), SystemIds(), fsync=fsync)


def test_everything_is_private_and_durable(server: EmbeddedRedis) -> None:
    server.ensure()
    for path in (server.home, server.data, server.socket.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.data / "acl.json").stat().st_mode) == 0o600
    admin = client_of(server, Role.ADMIN)
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "port": "0", "save": ""}
    found = {name: admin.config_get(name) for name in wanted}
    admin.close()
    assert {name: dict(answer)[name] for name, answer in found.items()} == wanted


def test_no_secret_in_the_process_list(server: EmbeddedRedis) -> None:
    server.ensure()
    shown = Path(f"/proc/{server.pid()}/cmdline").read_bytes() + Path(f"/proc/{server.pid()}/environ").read_bytes()
    secrets = json.loads((server.data / "acl.json").read_text()).values()
    assert not [secret for secret in secrets if secret.encode() in shown]


STARTER = """
import sys, time
from pathlib import Path
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
server = EmbeddedRedis(Path(sys.argv[1]), Path(sys.argv[2]), SystemClock(), SystemIds())
server.ensure()
print(server.run_id(), flush=True)
sys.stdin.read()
"""


def test_it_outlives_its_killed_parent_and_is_found_again(server: EmbeddedRedis) -> None:
    argv = [sys.executable, "-c", STARTER, str(server.home), str(server.socket.parent)]
    env = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        run_id = parent.stdout.readline().decode().strip()
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait(10)
    assert len(run_id) == 40
    server.ensure()
    assert server.run_id() == run_id


def test_many_starters_one_server(server: EmbeddedRedis) -> None:
    ids: list[str] = []

    def start() -> None:
        one = again(server)
        one.ensure()
        ids.append(one.run_id())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


@pytest.mark.invariant("I1")
def test_acknowledged_writes_survive_kill_9(server: EmbeddedRedis) -> None:
    key, lost = "fleet:{s00}:log:demo", 0
    for round_ in range(3):
        client = connect(server.ensure(), "supervisor", server.password(Role.SUPERVISOR))
        client.rpush(key, *(f"{round_}:{n}" for n in range(99)))
        client.rpush(key, f"{round_}:99")
        wait_aof(client)
        client.close()
        kill(server)
        client = connect(server.ensure(), "supervisor", server.password(Role.SUPERVISOR))
        lost += (round_ + 1) * 100 - client.llen(key)
        client.close()
    print(f"3 rounds, 3 kills, 300 acknowledged writes, {lost} lost")
    assert lost == 0


def test_mutant_without_append_only_the_kill_loses_them(server: EmbeddedRedis) -> None:
    server.ensure()
    admin = client_of(server, Role.ADMIN)
    admin.config_set("appendonly", "no")
    admin.set("fleet:meta", "x")
    with pytest.raises(redis_client.StoreError):
        wait_aof(admin)
    admin.close()
    kill(server)
    server.ensure()
    admin = client_of(server, Role.ADMIN)
    assert admin.get("fleet:meta") is None
    admin.close()


def test_wait_aof_speaks_for_the_writes_of_other_connections(server: EmbeddedRedis) -> None:
    """WAITAOF alone answers at once on a connection that wrote nothing; ours waits for the disk (here: never)."""
    server.ensure()
    writer, admin = client_of(server), client_of(server, Role.ADMIN)
    writer.set("fleet:meta", "x")
    idle = client_of(server)
    assert idle.execute_command("WAITAOF", 1, 0, 50)[0] == 1
    admin.config_set("appendfsync", "no")
    with pytest.raises(TemporaryError, match="did not confirm"):
        wait_aof(idle, 50)
    for client in (writer, admin, idle):
        client.close()


def test_always_confirms_without_waiting_for_a_second(server: EmbeddedRedis) -> None:
    careful = again(server, fsync="always")
    client = connect(careful.ensure(), "supervisor", careful.password(Role.SUPERVISOR))
    client.set("fleet:meta", "x")
    wait_aof(client, 200)
    assert client.get("fleet:meta") == b"x"
    client.close()


def test_a_clean_stop_leaves_nothing_and_keeps_the_data(server: EmbeddedRedis) -> None:
    server.ensure()
    client, pid = client_of(server), server.pid()
    client.set("fleet:meta", "x")
    client.close()
    server.stop()
    server.stop()
    assert not server.running()
    assert not server.socket.exists()
    assert not Path(f"/proc/{pid}/cwd").exists()
    server.ensure()
    client = client_of(server)
    assert client.get("fleet:meta") == b"x"
    client.close()


def test_a_frozen_server_is_stopped_too(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    server.ensure()
    pid = server.pid()
    assert pid is not None
    monkeypatch.setattr("fleet.adapters.embedded_redis.STOP_TIMEOUT", 0.2)
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not server.running()


def test_a_lost_pid_file_changes_nothing(server: EmbeddedRedis) -> None:
    server.ensure()
    run_id = server.run_id()
    (server.data / "server.pid").unlink()
    server.ensure()
    assert server.run_id() == run_id


def test_a_server_whose_socket_was_cleaned_away_is_replaced_and_loses_nothing(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.ensure()
    client, first = client_of(server), server.pid()
    client.set("fleet:meta", "kept")
    client.close()
    server.socket.unlink()
    monkeypatch.setattr("fleet.adapters.embedded_redis.LOST_SOCKET_AFTER", 0.1)
    server.ensure()
    client = client_of(server)
    assert client.get("fleet:meta") == b"kept"
    assert server.pid() != first
    client.close()


def test_a_cut_off_tail_is_dropped_and_said(server: EmbeddedRedis) -> None:
    server.ensure()
    client = client_of(server)
    client.set("fleet:meta", "kept")
    client.set("fleet:members", "cut")
    client.close()
    kill(server)
    [tail] = (server.data / "appendonlydir").glob("*.incr.aof")
    os.truncate(tail, tail.stat().st_size - 5)
    server.ensure()
    assert ["cut off" in notice for notice in server.notices] == [True]
    client = client_of(server)
    assert (client.get("fleet:meta"), client.get("fleet:members")) == (b"kept", None)
    client.close()


def test_a_damaged_file_parks_and_is_left_alone(server: EmbeddedRedis) -> None:
    server.ensure()
    client = client_of(server)
    client.set("fleet:meta", "kept")
    client.close()
    kill(server)
    [tail] = (server.data / "appendonlydir").glob("*.incr.aof")
    broken = b"garbage\r\n" + tail.read_bytes()
    tail.write_bytes(broken)
    with pytest.raises(ParkError, match="damaged"):
        server.ensure()
    assert tail.read_bytes() == broken


def test_a_strangers_socket_is_refused_and_hears_no_password(server: EmbeddedRedis, runtime: Path) -> None:
    server.ensure()
    server.stop()
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(server.socket))
        listener.listen()
        with pytest.raises(UsageError, match="not this home's"):
            server.ensure()
        listener.settimeout(1)
        peer, _ = listener.accept()
        heard.append(peer.recv(1000))
        peer.close()
    assert heard == [b""]
    assert not server.running()


def test_another_homes_server_on_this_socket_is_refused(server: EmbeddedRedis, tmp_path: Path) -> None:
    other = EmbeddedRedis(tmp_path / "other", server.socket.parent, SystemClock(), SystemIds())
    other.ensure()
    with pytest.raises(UsageError, match="not this home's"):
        server.ensure()
    assert other.running()
    other.stop()


@pytest.mark.root("a second user")
def test_a_second_user_is_told_to_use_a_home_of_their_own(server: EmbeddedRedis) -> None:
    server.ensure()
    os.chown(server.home, 4242, 4242)
    with pytest.raises(UsageError, match="belongs to uid 4242"):
        server.ensure()
    os.chown(server.home, 0, 0)


@pytest.mark.root("becoming an ordinary user")
def test_an_ordinary_user_runs_one_and_cannot_use_roots(server: EmbeddedRedis, runtime: Path) -> None:
    server.ensure()
    runtime.chmod(0o755)
    mine = runtime / "mine"
    mine.mkdir()
    os.chown(mine, 4242, 4242)
    answers, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        text = "failed"
        try:
            os.setgid(4242)
            os.setuid(4242)
            own = EmbeddedRedis(mine / "home", mine / "run", SystemClock(), SystemIds())
            own.ensure()
            text = f"{own.running()}"
            own.stop()
            again(server).ensure()
        except FleetError as error:
            text += f" {type(error).__name__}"
        finally:
            os.write(pipe, text.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(pipe)
    with os.fdopen(answers) as reader:
        assert reader.read() == "True UsageError"
    runtime.chmod(0o700)


def test_a_link_in_place_of_the_folder_is_refused(server: EmbeddedRedis, tmp_path: Path) -> None:
    server.home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    server.data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="link"):
        server.ensure()


def test_too_long_a_socket_path_is_a_clear_error(tmp_path: Path) -> None:
    far = EmbeddedRedis(tmp_path / "home", tmp_path / ("x" * 100), SystemClock(), SystemIds())
    with pytest.raises(UsageError, match="too long for a socket"):
        far.ensure()


@pytest.mark.invariant("I1")
def test_a_full_disk_is_a_temporary_error_and_nothing_is_promised(server: EmbeddedRedis) -> None:
    """The server's own file size limit plays the full disk: its next append fails, and so does the write."""
    server.ensure()
    pid = server.pid()
    assert pid is not None
    client = client_of(server)
    import resource

    [tail] = (server.data / "appendonlydir").glob("*.incr.aof")
    os.kill(pid, signal.SIGCONT)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (tail.stat().st_size + 1, resource.RLIM_INFINITY))

    def refused() -> bool:
        try:
            client.set("fleet:meta", "x" * 1000)
            wait_aof(client, 100)
        except TemporaryError as error:
            return "cannot write to its disk" in str(error)
        return False

    assert eventually(refused, 20)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def recovered() -> bool:
        try:
            client.set("fleet:meta", "y")
            wait_aof(client)
        except TemporaryError:
            return False
        return True

    assert eventually(recovered, 20)
    client.close()


def test_todays_rules_reach_a_server_that_an_older_fleet_started(server: EmbeddedRedis) -> None:
    server.ensure()
    run_id = server.run_id()
    old = (server.data / "users.acl").read_text().replace("user publisher on", "user publisher off")
    (server.data / "users.acl").write_text(old)
    admin = client_of(server, Role.ADMIN)
    admin.execute_command("ACL", "LOAD")
    admin.close()
    server.ensure()
    publisher = client_of(server, Role.PUBLISHER)
    assert publisher.ping()
    publisher.close()
    assert server.run_id() == run_id
