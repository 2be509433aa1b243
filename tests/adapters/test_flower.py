"""Flower as people meet it: nothing without the password, everything with it, and a revoke that arrives."""

from __future__ import annotations

import base64
import http.client
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fleet.adapters import flower_auth
from fleet.adapters.acl import Role
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.flower_auth import authorized, flower_command, flower_link, local_host
from fleet.adapters.redis_client import broker_options, broker_url, connect
from tests.support.wait import eventually

pytest.importorskip("flower", reason="the extra flower is not installed")

PASSWORD = "correct horse"
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"fleet:{PASSWORD}".encode()).decode()}
PAGES = (
    "/",
    "/workers",
    "/tasks",
    "/broker",
    "/metrics",
    "/healthcheck",
    "/static/css/flower.css",
    "/api/workers?refresh=1",
)
CLOSED = (
    *PAGES,
    "/api/tasks",
    "/api/queues/length",
    "/task/x",
    "/worker/x",
    "/login",
    "/nowhere",
    "//",
    "/tasks/datatable",
)


class Flower:
    """A running Flower process."""

    def __init__(self, server: EmbeddedRedis, folder: Path) -> None:
        self.settings, self.url_file = folder / "flower.json", folder / "flower.url"
        self.argv, extra = flower_command(
            self.settings,
            broker_url=broker_url(server.address, "monitor", server.password(Role.MONITOR)),
            options=broker_options(server.address),
            password=PASSWORD,
            port=0,
            url_file=self.url_file,
        )
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **extra}
        with (folder / "flower.log").open("wb") as log:
            self.process = subprocess.Popen(self.argv, env=env, stdout=log, stderr=log)
        assert eventually(self.url_file.exists, 30), (folder / "flower.log").read_text()

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: str = "") -> tuple[int, bytes]:
        port = urlsplit(self.url_file.read_text()).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@pytest.fixture(scope="module")
def flower(shared_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    running = Flower(shared_server, tmp_path_factory.mktemp("flower"))
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE"])
def test_no_page_without_the_password(flower: Flower, method: str, path: str) -> None:
    wrong = {"Authorization": "Basic " + base64.b64encode(b"fleet:wrong").decode()}
    assert flower.ask(method, path)[0] == 401
    assert flower.ask(method, path, wrong)[0] == 401


@pytest.mark.parametrize("path", PAGES)
def test_every_page_with_the_password(flower: Flower, path: str) -> None:
    assert flower.ask("GET", path, LOGIN)[0] == 200


def test_another_host_name_is_refused(flower: Flower) -> None:
    assert flower.ask("GET", "/", {**LOGIN, "Host": "evil.example"})[0] == 403
    assert flower.ask("GET", "/", {**LOGIN, "Host": "localhost:1"})[0] == 200


def test_the_password_is_in_no_argument_and_no_environment(flower: Flower) -> None:
    shown = [Path(f"/proc/{flower.process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    assert not [text for text in shown if PASSWORD.encode() in text]
    assert stat.S_IMODE(flower.settings.stat().st_mode) == 0o600
    assert PASSWORD not in flower.url_file.read_text()


def test_queue_lengths_and_the_record_of_refusals(flower: Flower, shared_server: EmbeddedRedis) -> None:
    """The monitor's account suffices for all that Flower does."""
    admin = connect(shared_server.address, "admin", shared_server.password(Role.ADMIN))
    admin.lpush("fleet-broker:agents", "x", "y")
    status, body = flower.ask("GET", "/broker", LOGIN)
    assert status == 200, body
    status, body = flower.ask("GET", "/api/queues/length", LOGIN)
    assert status == 200, body
    assert "active_queues" in json.loads(body)
    assert admin.acl_log() == []
    admin.delete("fleet-broker:agents")
    admin.close()


def test_a_revoke_in_flower_reaches_the_fleet(
    flower: Flower, shared_server: EmbeddedRedis, tmp_path: Path, worker_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    record = tmp_path / "record"
    url = broker_url(shared_server.address, "agents", shared_server.password(Role.AGENTS))
    worker_process(tmp_path, url, record)

    def seen() -> bool:
        status, body = flower.ask("GET", "/api/workers?refresh=1", LOGIN)
        return status == 200 and b"w@fleet" in body

    assert eventually(seen, 30)
    path = "/api/task/revoke/demo-1-abc:start:1:0:0?terminate=true"
    assert flower.ask("POST", path, {**LOGIN, "Origin": flower.url_file.read_text().rstrip("/")})[0] == 200
    assert eventually(lambda: record.exists() and "revoke demo-1-abc:start:1:0:0" in record.read_text(), 20)


@pytest.fixture
def worker_process() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, url: str, record: Path) -> subprocess.Popen[bytes]:
        settings = folder / "worker.json"
        settings.write_text(json.dumps({"url": url, "record": str(record)}))
        started.append(subprocess.Popen([sys.executable, "-m", "tests.adapters.celery_table", str(settings)]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def test_who_is_let_in() -> None:
    assert authorized(LOGIN["Authorization"], PASSWORD)
    for header in ("", "Basic", "Basic !!!", "Bearer x", LOGIN["Authorization"] + "x", LOGIN["Authorization"][:-4]):
        assert not authorized(header, PASSWORD)
    assert [h for h in ("127.0.0.1:5", "localhost", "[::1]:5", "evil", "127.0.0.1.evil:5", "") if local_host(h)] == [
        "127.0.0.1:5",
        "localhost",
        "[::1]:5",
    ]
    assert flower_link("http://127.0.0.1:5/", "a/b") == "http://fleet:a%2Fb@127.0.0.1:5/"


def test_mutant_stock_flower_shows_its_pages_to_anybody(
    shared_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the guard off, a page without a password answers 200: the tests above would notice."""
    open_ = (
        "import sys; from importlib import import_module; from fleet.adapters import flower_auth as f; "
        "f.application = lambda password: import_module('flower.app').Flower; sys.exit(f.main(sys.argv[1]))"
    )
    stock = flower_auth.flower_command
    monkeypatch.setattr(
        sys.modules[__name__],
        "flower_command",
        lambda path, **given: ([sys.executable, "-c", open_, stock(path, **given)[0][-1]], {}),
    )
    flower = Flower(shared_server, tmp_path)
    try:
        assert flower.ask("GET", "/healthcheck")[0] == 200
        assert flower.ask("GET", "/metrics")[0] == 200
    finally:
        flower.stop()
