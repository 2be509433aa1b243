"""A server, a replica of it and a sentinel that watches both: real processes on loopback ports."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from fleet.adapters.acl import Role
from fleet.adapters.process import HostProcess
from fleet.adapters.redis_client import RedisAddress, parse_address
from fleet.adapters.redis_program import find_program
from tests.support.wait import eventually

SERVICE = "ledger"


class Replicated:
    """``address`` goes over the sentinel. It has one account for all roles, as such servers have."""

    def __init__(self, folder: Path, watched: bool = True) -> None:
        self._folder = folder
        self._running: dict[str, HostProcess] = {}
        self.port = {name: free_port() for name in ("master", "replica", "sentinel")}
        self.address: RedisAddress = parse_address(f"redis://127.0.0.1:{self.port['master']}/0")
        if watched:
            self.address = parse_address(f"sentinel://127.0.0.1:{self.port['sentinel']}/{SERVICE}")
        common = {"appendonly": "yes", "save": '""', "repl-diskless-sync-delay": "0"}
        self._start("master", common)
        self._start("replica", {**common, "replicaof": f"127.0.0.1 {self.port['master']}"})
        assert eventually(lambda: self.info("replica")["master_link_status"] == "up", 30), "the replica has not synced"
        if watched:
            watch = f"monitor {SERVICE} 127.0.0.1 {self.port['master']} 1"
            patience = (f"down-after-milliseconds {SERVICE} 300", f"failover-timeout {SERVICE} 3000")
            self._start("sentinel", {}, (watch, *patience))
            assert eventually(lambda: self._sentinel_knows("slaves"), 30), "the sentinel has not found the replica"

    def password(self, _: Role) -> str:
        return ""

    def client(self, name: str) -> redis.Redis:
        return redis.Redis(port=self.port[name], protocol=2)

    def info(self, name: str) -> Mapping[str, Any]:
        with suppress(redis.ConnectionError), self.client(name) as client:
            found: Mapping[str, Any] = client.info("replication")
            return found
        return {"master_link_status": "", "role": ""}

    def caught_up(self) -> bool:
        """Whether the replica has all that the master was told."""
        replica, master = self.info("replica"), self.info("master")
        return bool(replica["slave_repl_offset"] == master["master_repl_offset"])

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self._running[name].pid, number)

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)
        self._running.pop(name).wait(10)

    def promote(self) -> None:
        """The replica as it is now takes the place of the master, which is gone, under its port."""
        with self.client("replica") as client:
            client.config_set("port", str(self.port["master"]))

    def close(self) -> None:
        for process in self._running.values():
            process.stop()

    def _sentinel_knows(self, what: str) -> bool:
        with suppress(redis.ConnectionError), self.client("sentinel") as client:
            return bool(client.execute_command("SENTINEL", what, SERVICE))
        return False

    def _start(self, name: str, settings: Mapping[str, str], watching: tuple[str, ...] = ()) -> None:
        place = self._folder / name
        place.mkdir()
        own = {"port": str(self.port[name]), "bind": "127.0.0.1", "dir": str(place), **settings}
        lines = [f"{key} {value}" for key, value in own.items()] + [f"sentinel {line}" for line in watching]
        conf = place / "server.conf"
        conf.write_text("\n".join(lines) + "\n")
        words = [str(find_program().path), str(conf), *(["--sentinel"] if watching else [])]
        self._running[name] = HostProcess(words, cwd=place, env={"LC_ALL": "C"}, log=place / "log")
        assert eventually(lambda: self._answers(name), 30), (place / "log").read_text()[-2000:]

    def _answers(self, name: str) -> bool:
        with suppress(redis.RedisError), self.client(name) as client:
            return bool(client.ping())
        return False


@contextmanager
def replicated(folder: Path, watched: bool = True) -> Iterator[Replicated]:
    made = Replicated(folder, watched)
    try:
        yield made
    finally:
        made.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
