"""`fleet up --flower`: a link with a password, closed without it, and tasks that can be read."""

from __future__ import annotations

import base64
import json
import sys
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
