"""`fleet up --flower`: a link with a password, closed without it, and tasks that can be read."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.kit import fleet_home, status_of
from tests.support.wait import eventually

pytest.importorskip("flower", reason="the extra flower is not installed")


def test_flower_shows_what_the_fleet_did(repo: Path) -> None:
    with fleet_home(None, FLEET_FLOWER=sys.prefix) as fleet:
        up = fleet("up", "--flower", "--json", timeout=120)
        assert up.code == 0, up.err
        link = urlsplit(up.rows[-1]["flower"])
        url = f"{link.scheme}://{link.hostname}:{link.port}"
        login = base64.b64encode(f"{link.username}:{unquote(link.password or '')}".encode()).decode()
        assert status_of(f"{url}/workers")[0] == 401 and status_of(f"{url}/api/tasks")[0] == 401
        assert status_of(f"{url}/workers", Authorization=f"Basic {login}")[0] == 200
        done = fleet.ticket(repo)
        assert done.code == 0, done.out[-1000:]
        ticket = done.result["ticket"]

        def told() -> list[tuple[str, str]]:
            tasks = json.loads(status_of(f"{url}/api/tasks", Authorization=f"Basic {login}")[1])
            return [(task["name"], task["args"]) for task in tasks.values()]

        names = {"agents.attempt", "gates.run", "publish.pull_request"}
        assert eventually(lambda: names <= {name for name, args in told() if ticket in args}, 30.0, 0.5), told()
        again = fleet("up", "--flower", "--json")
        assert again.rows[-1]["flower"] == up.rows[-1]["flower"]


@pytest.mark.invariant("I20")
def test_a_terminate_on_the_task_page_cancels_the_ticket(repo: Path, tmp_path: Path) -> None:
    with fleet_home(None, FLEET_FLOWER=sys.prefix) as fleet:
        up = fleet("up", "--flower", "--json", timeout=120)
        assert up.code == 0, up.err
        link = urlsplit(up.rows[-1]["flower"])
        url = f"{link.scheme}://{link.hostname}:{link.port}"
        login = base64.b64encode(f"{link.username}:{unquote(link.password or '')}".encode()).decode()
        assert eventually(
            lambda: "agents" in status_of(f"{url}/api/workers?refresh=1", Authorization=f"Basic {login}")[1], 30
        )
        ticket = fleet.ticket(repo, "command:sleep 60", "--detach").rows[-1]["ticket"]
        task = f"{ticket}:start:1:0:0"

        def state() -> str:
            return str(fleet("show", ticket, "--json").result["state"])

        assert eventually(lambda: state() == "running", 60.0)
        assert eventually(lambda: task in status_of(f"{url}/api/tasks", Authorization=f"Basic {login}")[1], 30.0)
        if shutil.which("chromium"):
            page = dumped(f"{up.rows[-1]['flower'].rstrip('/')}/task/{task}", tmp_path)
            assert "agents.attempt" in page and f"{ticket} attempt 1" in page, page[-3000:]
        headers = {"Authorization": f"Basic {login}", "Origin": url}
        order = urllib.request.Request(f"{url}/api/task/revoke/{task}?terminate=true", b"", headers)
        with urllib.request.urlopen(order, timeout=20) as answer:
            assert answer.status == 200
        assert eventually(lambda: state() == "cancelled", 20.0)
        assert "flower" in fleet("show", ticket).out.splitlines()[0]


def dumped(url: str, folder: Path) -> str:
    """The page as Chromium has drawn it."""
    words = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'chromium'}")
    order = [*words, "--virtual-time-budget=5000", "--dump-dom", url]
    return subprocess.run(order, capture_output=True, text=True, timeout=60, check=True).stdout
