"""`fleet up --flower`: a link with a password, closed without it, tasks that can be read, a terminate that cancels."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.kit import Fleet, fleet_home, repository, status_of
from tests.support.wait import eventually

pytest.importorskip("flower", reason="the extra flower is not installed")


@dataclass(frozen=True)
class Flower:
    """Flower beside a fleet. ``link`` holds the password, ``url`` does not."""

    fleet: Fleet
    link: str
    url: str
    login: dict[str, str]

    def ask(self, path: str) -> tuple[int, str]:
        return status_of(f"{self.url}{path}", **self.login)

    def told(self) -> list[tuple[str, str]]:
        return [(task["name"], task["args"]) for task in json.loads(self.ask("/api/tasks")[1]).values()]


@pytest.fixture(scope="module")
def flower() -> Iterator[Flower]:
    with fleet_home(None, FLEET_FLOWER=sys.prefix) as fleet:
        up = fleet("up", "--flower", "--json", timeout=120)
        assert up.code == 0, up.err
        link = up.rows[-1]["flower"]
        parts = urlsplit(link)
        words = base64.b64encode(f"{parts.username}:{unquote(parts.password or '')}".encode()).decode()
        yield Flower(
            fleet, link, f"{parts.scheme}://{parts.hostname}:{parts.port}", {"Authorization": f"Basic {words}"}
        )


@pytest.fixture(scope="module")
def done(flower: Flower, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a ticket that went all the way."""
    run = flower.fleet.ticket(repository(tmp_path_factory.mktemp("flower") / "seen"))
    assert run.code == 0, run.out[-1000:]
    return str(run.result["ticket"])


def test_flower_shows_what_the_fleet_did(flower: Flower, done: str) -> None:
    assert status_of(f"{flower.url}/workers")[0] == 401 and status_of(f"{flower.url}/api/tasks")[0] == 401
    assert flower.ask("/workers")[0] == 200
    names = {"agents.attempt", "gates.run", "publish.pull_request"}
    assert eventually(lambda: names <= {name for name, args in flower.told() if done in args}, 30.0, 0.5), flower.told()
    again = flower.fleet("up", "--flower", "--json")
    assert again.rows[-1]["flower"] == flower.link


@pytest.mark.needs("chromium")
def test_the_task_page_reads_in_a_browser(flower: Flower, done: str, tmp_path: Path) -> None:
    task = f"{done}:start:1:0:0"
    assert eventually(lambda: task in flower.ask("/api/tasks")[1], 30.0)
    words = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}")
    order = [*words, "--virtual-time-budget=5000", "--dump-dom", f"{flower.link.rstrip('/')}/task/{task}"]
    page = subprocess.run(order, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "agents.attempt" in page and f"{done} attempt 1" in page, page[-3000:]


@pytest.mark.invariant("I20")
def test_a_terminate_on_the_task_page_cancels_the_ticket(flower: Flower, repo: Path) -> None:
    fleet = flower.fleet
    ticket = fleet.ticket(repo, "command:sleep 61", "--detach").rows[-1]["ticket"]
    task = f"{ticket}:start:1:0:0"

    def state() -> str:
        return str(fleet("show", ticket, "--json").result["state"])

    def at_work() -> list[int]:
        return [pid for pid, words in fleet.processes().items() if "sleep 61" in words]

    assert eventually(lambda: state() == "running" and at_work(), 20.0), fleet.processes()
    assert eventually(lambda: task in flower.ask("/api/tasks")[1], 30.0)
    headers = {**flower.login, "Origin": flower.url}
    order = urllib.request.Request(f"{flower.url}/api/task/revoke/{task}?terminate=true", b"", headers)
    with urllib.request.urlopen(order, timeout=20) as answer:
        assert answer.status == 200
    assert eventually(lambda: state() == "cancelled", 20.0)
    assert "flower" in fleet("show", ticket).out.splitlines()[0]
    assert eventually(lambda: not at_work(), 45.0), fleet.processes()
