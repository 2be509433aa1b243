"""Wake-ups over a real broker, with a real worker process; everything that a broken or hostile broker may do to it."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters import wakeup
from fleet.adapters.acl import Role
from fleet.adapters.celery_app import FleetCelery, make_app
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.redis_client import FleetRedis, broker_options, broker_url, connect
from fleet.core.errors import InternalError, TemporaryError
from tests.support.wait import eventually

QUEUE = "fleet-broker:agents"


class Worker:
    """A worker process and what its tasks wrote down."""

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.record = folder / "record"
        self.log = folder / "log"
        path = folder / "settings.json"
        path.write_text(json.dumps({"url": url, "record": str(self.record), **settings}))
        argv = [sys.executable, "-m", "tests.adapters.celery_table", str(path)]
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(argv, stderr=errors, start_new_session=True)

    def lines(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []

    def saw(self, line: str, times: int = 1, seconds: float = 20) -> bool:
        return eventually(lambda: self.lines().count(line) >= times, seconds)

    def said(self, text: str) -> bool:
        return eventually(lambda: text in self.log.read_text(), 20)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def sender(server: EmbeddedRedis) -> Iterator[FleetCelery]:
    server.ensure()
    url = broker_url(server.address, "supervisor", server.password(Role.SUPERVISOR))
    app = make_app(url, {}, name="supervisor", options=broker_options(server.address))
    yield app
    app.close()


@pytest.fixture
def admin(server: EmbeddedRedis, sender: FleetCelery) -> Iterator[FleetRedis]:
    client = connect(server.address, "admin", server.password(Role.ADMIN))
    yield client
    client.close()


@pytest.fixture
def start(server: EmbeddedRedis, sender: FleetCelery, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def started(**settings: Any) -> Worker:
        url = broker_url(server.address, "agents", server.password(Role.AGENTS))
        workers.append(Worker(tmp_path / f"worker{len(workers)}", url, **settings))
        return workers[-1]

    yield started
    for worker in workers:
        worker.stop(signal.SIGKILL)


def wake(sender: FleetCelery, ticket: str, task: str = "agents.attempt") -> None:
    sender.wake("agents", task, (ticket, "1", "0"), f"{ticket}:start:1:0:0")


def test_a_wake_up_arrives_with_its_ids_and_no_more(
    sender: FleetCelery, start: Callable[..., Worker], admin: FleetRedis
) -> None:
    wake(sender, "demo-1-abc")
    [raw] = admin.lrange(QUEUE, 0, -1)
    body = json.loads(base64.b64decode(json.loads(raw)["body"]))
    assert body[:2] == [["demo-1-abc", "1", "0"], {}]
    worker = start()
    assert worker.saw("end demo-1-abc")
    assert worker.lines() == ["begin demo-1-abc 1 0", "end demo-1-abc"]
    assert admin.acl_log() == []
    assert eventually(lambda: not admin.exists("fleet-broker:unacked"), 30)


@pytest.mark.invariant("I18")
def test_sigterm_takes_no_more_and_lets_the_running_task_end(sender: FleetCelery, start: Callable[..., Worker]) -> None:
    worker = start(slow={"slow-1-abc": 2})
    wake(sender, "slow-1-abc")
    assert worker.saw("begin slow-1-abc 1 0")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.stop() == 0
    assert worker.lines() == ["begin slow-1-abc 1 0", "end slow-1-abc", "drained True"]


def test_a_task_that_does_not_end_does_not_keep_the_worker(sender: FleetCelery, start: Callable[..., Worker]) -> None:
    worker = start(slow={"slow-1-abc": 100}, soft_timeout=0.5)
    wake(sender, "slow-1-abc")
    assert worker.saw("begin slow-1-abc 1 0")
    assert worker.stop() == 0
    assert worker.lines() == ["begin slow-1-abc 1 0", "drained False"]


@pytest.mark.invariant("I18")
def test_a_second_sigterm_kills(sender: FleetCelery, start: Callable[..., Worker]) -> None:
    worker = start(slow={"slow-1-abc": 100}, soft_timeout=60, says_so=True)
    wake(sender, "slow-1-abc")
    assert worker.saw("begin slow-1-abc 1 0")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.saw("told to stop")
    assert worker.stop() == -signal.SIGTERM
    assert worker.lines() == ["begin slow-1-abc 1 0", "told to stop"]


@pytest.mark.invariant("I3")
def test_doubled_wake_ups_are_just_two_calls_and_a_lost_one_is_just_none(
    sender: FleetCelery, start: Callable[..., Worker], admin: FleetRedis
) -> None:
    wake(sender, "lost-1-abc")
    admin.delete(QUEUE)
    wake(sender, "twice-1-abc")
    wake(sender, "twice-1-abc")
    worker = start()
    assert worker.saw("end twice-1-abc", times=2)
    assert not [line for line in worker.lines() if "lost" in line]
    assert worker.process.poll() is None


def test_an_early_acknowledged_message_does_not_come_back_after_kill_9(
    sender: FleetCelery, start: Callable[..., Worker], admin: FleetRedis
) -> None:
    first = start(slow={"slow-1-abc": 100})
    wake(sender, "slow-1-abc")
    assert first.saw("begin slow-1-abc 1 0")
    assert eventually(lambda: not admin.exists("fleet-broker:unacked"), 30)
    first.stop(signal.SIGKILL)
    second = start()
    wake(sender, "after-1-abc")
    assert second.saw("end after-1-abc")
    assert second.lines() == ["begin after-1-abc 1 0", "end after-1-abc"]


def message(**changes: Any) -> dict[str, Any]:
    """A good message, changed."""
    good = wakeup.written(
        wakeup.WakeUp("agents.attempt", "forged-1:1", ("forged-1-abc", "1", "0")),
        {"properties": {"delivery_tag": "t"}},
        "agents",
    )
    headers = {**good["headers"], **changes.pop("headers", {})}
    properties = {**good["properties"], **changes.pop("properties", {})}
    return {**good, "headers": headers, "properties": properties, **changes}


def body(content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


class Exploit:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


FORGED: dict[str, bytes] = {
    "garbage": b"garbage",
    "not text": b"\xff\xfe\x00",
    "number": b"5",
    "list": b"[1]",
    "empty object": b"{}",
    "deep": b"[" * 100_000,
    "no properties": json.dumps({**message(), "properties": None}).encode(),
    "no tag": json.dumps(message(properties={"delivery_tag": None})).encode(),
    "tag no id": json.dumps(message(properties={"delivery_tag": ["x"]})).encode(),
    "headers a list": json.dumps({**message(), "headers": [1]}).encode(),
    "unknown task": json.dumps(message(headers={"task": "os.system"})).encode(),
    "built-in task": json.dumps(message(headers={"task": "celery.backend_cleanup"})).encode(),
    "no id": json.dumps(message(headers={"id": None})).encode(),
    "id with escape": json.dumps(message(headers={"id": "x\x1b[2J"})).encode(),
    "path as ticket": json.dumps(message(body=body([["../../etc", "1", "0"], {}, {}]))).encode(),
    "words as number": json.dumps(message(body=body([["forged-1-abc", "one", "0"], {}, {}]))).encode(),
    "no arguments": json.dumps(message(body=body([[], {}, {}]))).encode(),
    "objects as ids": json.dumps(message(body=body([[{"a": 1}, 2, 3], {}, {}]))).encode(),
    "huge body": json.dumps(message(body=body([["a" * 10_000, "1", "0"], {}, {}]))).encode(),
    "pickle": json.dumps(
        message(
            **{"content-type": "application/x-python-serialize"},
            body=base64.b64encode(pickle.dumps(Exploit())).decode(),
        )
    ).encode(),
    "pickle as JSON": json.dumps(message(body=base64.b64encode(pickle.dumps(Exploit())).decode())).encode(),
}
# These pass as plain wake-ups; what else they carry must be gone.
STRIPPED: dict[str, bytes] = {
    "due in a year": json.dumps(message(headers={"eta": "2099-01-01T00:00:00"})).encode(),
    "bad expiry": json.dumps(message(headers={"expires": {"x": 1}})).encode(),
    "time limit": json.dumps(message(headers={"timelimit": ["x", -1]})).encode(),
    "compressed": json.dumps(message(headers={"compression": "application/x-gzip"})).encode(),
    "chained": json.dumps(
        message(
            body=body([["forged-1-abc", "1", "0"], {"x": 1}, {"chain": [{"task": "agents.attempt", "args": ["x"]}]}])
        )
    ).encode(),
    "retries": json.dumps(message(headers={"retries": "many", "group": 7, "chord": 1})).encode(),
}


@pytest.mark.invariant("I21")
def test_forged_messages_are_dropped_and_the_worker_goes_on(
    sender: FleetCelery, start: Callable[..., Worker], admin: FleetRedis
) -> None:
    worker = start()
    wake(sender, "first-1-abc")
    assert worker.saw("end first-1-abc")
    for raw in FORGED.values():
        admin.lpush(QUEUE, raw)
    wake(sender, "last-1-abc")
    assert worker.saw("end last-1-abc")
    assert [line for line in worker.lines() if "first" not in line and "last" not in line] == []
    assert worker.log.read_text().count("dropped a message") == len(FORGED)
    assert "\x1b" not in worker.log.read_text()
    assert not Path("pwned").exists()
    assert worker.process.poll() is None


@pytest.mark.invariant("I21")
def test_what_a_message_carries_beyond_its_ids_is_gone(
    sender: FleetCelery, start: Callable[..., Worker], admin: FleetRedis
) -> None:
    worker = start()
    for raw in STRIPPED.values():
        admin.lpush(QUEUE, raw)
    assert worker.saw("end forged-1-abc", times=len(STRIPPED))
    assert set(worker.lines()) == {"begin forged-1-abc 1 0", "end forged-1-abc"}
    assert worker.process.poll() is None


def test_mutant_without_the_guard_a_forged_message_ends_the_worker(
    sender: FleetCelery,
    start: Callable[..., Worker],
    admin: FleetRedis,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Stock Celery dies of ``garbage``: that is what the guard is for."""
    naked = (
        "import sys; import fleet.adapters.celery_app as c; c._guarded = lambda transport, tasks: transport; "
        "from tests.adapters.celery_table import main; sys.exit(main(sys.argv[1]))"
    )
    settings = tmp_path / "worker0" / "settings.json"
    worker = start()
    worker.stop(signal.SIGKILL)
    admin.lpush(QUEUE, FORGED["garbage"])
    process = subprocess.run([sys.executable, "-c", naked, str(settings)], capture_output=True, timeout=60, check=False)
    assert process.returncode != 0
    assert b"Unrecoverable error" in process.stderr


def test_forged_broadcasts_are_dropped_and_remote_control_only_looks(
    sender: FleetCelery, start: Callable[..., Worker], admin: FleetRedis
) -> None:
    worker = start()
    wake(sender, "first-1-abc")
    assert worker.saw("end first-1-abc")
    for junk in (b"junk", b"{}", b"[]", b'{"properties": {}}', b'{"properties": {"delivery_tag": 1}, "body": 7}'):
        admin.publish("fleet-broker:/0.celery.pidbox", junk)
    control = sender.app.control
    for command in ("shutdown", "cancel_consumer", "add_consumer", "pool_shrink", "pool_restart", "time_limit"):
        control.broadcast(command, arguments={"queue": "agents"})
    answers = control.inspect(timeout=2).ping()
    assert answers == {"w@fleet": {"ok": "pong"}}
    wake(sender, "last-1-abc")
    assert worker.saw("end last-1-abc")
    assert worker.process.poll() is None


@pytest.mark.invariant("I20")
def test_a_revoke_is_told_and_touches_no_thread(sender: FleetCelery, start: Callable[..., Worker]) -> None:
    worker = start(slow={"slow-1-abc": 1})
    wake(sender, "slow-1-abc")
    assert worker.saw("begin slow-1-abc 1 0")
    sender.app.control.revoke("slow-1-abc:start:1:0:0", terminate=True)
    assert worker.saw("revoke slow-1-abc:start:1:0:0")
    assert worker.saw("end slow-1-abc")


@pytest.mark.invariant("I19")
def test_the_worker_comes_back_after_the_broker_was_killed(
    server: EmbeddedRedis, sender: FleetCelery, start: Callable[..., Worker]
) -> None:
    worker = start()
    wake(sender, "first-1-abc")
    assert worker.saw("end first-1-abc")
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not server.running(), 30)
    with pytest.raises(TemporaryError, match="did not take the wake-up"):
        wake(sender, "down-1-abc")
    server.ensure()
    wake(sender, "back-1-abc")
    assert worker.saw("end back-1-abc", seconds=60)
    assert worker.process.poll() is None


def test_a_task_that_fails_is_logged_and_the_next_one_runs(sender: FleetCelery, start: Callable[..., Worker]) -> None:
    worker = start()
    wake(sender, "bad-1-abc", "agents.broken")
    wake(sender, "good-1-abc")
    assert worker.saw("end good-1-abc")
    assert worker.said("RuntimeError")


def test_only_ids_are_sent(sender: FleetCelery) -> None:
    for ids in (("../x", "1", "0"), ("x", "one", "0"), ("x", "1"), ("x", "1", "0", "0", "0")):
        with pytest.raises(InternalError, match="was not sent"):
            sender.wake("agents", "agents.attempt", ids, "x:1")
    with pytest.raises(InternalError, match="task id"):
        sender.wake("agents", "agents.attempt", ("x", "1", "0"), "bad id")


def test_wake_ups_read_well() -> None:
    def text(*ids: str) -> str:
        return wakeup.checked("t", "x", ids).text

    assert text("tabulate-1-4f9c2a", "1", "0") == "tabulate-1-4f9c2a attempt 1"
    assert text("tabulate-1-4f9c2a", "2", "1", "0") == "tabulate-1-4f9c2a attempt 2 round 1"
    assert text("tabulate-1-4f9c2a", "2", "0", "3") == "tabulate-1-4f9c2a attempt 2 turn 3"
