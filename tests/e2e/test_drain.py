"""A fleet that is stopped at work: what is handed back is said, followers are told, and it all goes on afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kit import FILES, UNUSED, Fleet, born, fleet_home, repository
from tests.support.wait import eventually

WORK = "command:sh -c 'sed -i s/x/x/ small/core.py; sleep 6; ruff check --fix --exit-zero --select F401 .'"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with fleet_home(FLEET_SUPERVISION_BACKOFF_FIRST="0.5") as one:
        yield one


def begin(fleet: Fleet, repo: Path) -> tuple[subprocess.Popen[str], list[dict[str, Any]]]:
    """`fleet run --json` in the background, until its agent works."""
    words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", WORK)
    running = fleet.start(*words)
    rows: list[dict[str, Any]] = []
    assert running.stdout is not None
    for line in running.stdout:
        rows.append(json.loads(line))
        if rows[-1].get("kind") == "ToolStarted":
            break
    return running, rows


def rest(running: subprocess.Popen[str], rows: list[dict[str, Any]]) -> int:
    """Reads to the end; answers the exit code."""
    assert running.stdout is not None
    rows += [json.loads(line) for line in running.stdout]
    return running.wait(30)


def shown(fleet: Fleet, ticket: str) -> dict[str, Any]:
    return fleet("show", "--json", ticket).result


@pytest.mark.slow
@pytest.mark.invariant("I18")
def test_down_hands_back_and_up_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    repo = repository(tmp_path / "down")
    running, rows = begin(fleet, repo)
    ticket = rows[0]["ticket"]
    down = fleet("down")
    assert down.code == 0, down.err
    assert down.out.splitlines()[:2] == ["stopped", f"handed back  attempt 1 of {ticket}; it counts as none"]
    assert rest(running, rows) == 130, "whoever followed it is told, and brings nothing back"
    assert rows[-1] == {"v": 1, "type": "interrupted", "ticket": ticket}
    assert fleet.processes() == {}
    assert fleet("up").code == 0
    assert eventually(lambda: shown(fleet, ticket)["state"] == "in_review", 90, every=0.5)
    row = shown(fleet, ticket)
    assert (row["attempts"], len(fleet.pulls("local/down"))) == (2, 1)
    assert row["reason"] == "published"
    log = [json.loads(line) for line in fleet("show", "--json", "-f", ticket).out.splitlines()]
    moves = [one["data"]["reason"] for one in log if one.get("kind") == "StateChanged"]
    assert "handed_back" in moves and not {"lost", "crashed", "stalled"} & set(moves)


@pytest.mark.slow
@pytest.mark.invariant("I18")
def test_a_run_outlives_the_host_that_it_started(fleet: Fleet, tmp_path: Path) -> None:
    """SIGTERM to the host alone (a machine that restarts it): the follower brings it back and sees the end."""
    tmp_path.chmod(0o755)
    repo = repository(tmp_path / "host")
    running, rows = begin(fleet, repo)
    host = fleet.services()["host"]
    os.kill(host, signal.SIGTERM)
    assert rest(running, rows) == 0
    assert (rows[-1]["type"], rows[-1]["state"]) == ("result", "in_review")
    moves = [row["data"]["reason"] for row in rows if row.get("kind") == "StateChanged"]
    assert moves.count("handed_back") == 1
    assert fleet.services()["host"] != host


@pytest.mark.slow
def test_a_second_signal_to_the_host_kills(fleet: Fleet, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    repo = repository(tmp_path / "twice")
    running, rows = begin(fleet, repo)
    running.kill()
    running.communicate()
    host, family = fleet.services()["host"], fleet.family()
    os.kill(host, signal.SIGTERM)
    log = fleet.layout.logs / "host.log"
    assert eventually(lambda: "draining" in log.read_text(), 30)
    os.kill(host, signal.SIGTERM)
    assert eventually(lambda: "everything is killed" in log.read_text(), 30)
    assert eventually(lambda: not any(born(pid) == moment for pid, moment in family.items()), 20)
    assert fleet("up").code == 0
    assert eventually(lambda: shown(fleet, rows[0]["ticket"])["state"] == "in_review", 90, every=0.5)


SLOW_GATE = 'version = 1\n\n[gates.slow]\ncommand = ["sleep", "25"]\nkind = "lint"\n'


@pytest.mark.long
@pytest.mark.invariant("I18")
def test_gates_that_outlast_the_grace_are_handed_back(fleet: Fleet, tmp_path: Path) -> None:
    """The worker waits 15 s for them, hands them back, and goes; the next one runs them again, uncounted."""
    tmp_path.chmod(0o755)
    repo = repository(tmp_path / "gates", {**FILES, ".fleet.toml": SLOW_GATE})
    words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", UNUSED)
    running, rows = fleet.start(*words), []
    assert running.stdout is not None
    pid = 0
    for line in running.stdout:
        rows.append(json.loads(line))
        if rows[-1].get("kind") == "GatesStarted" and not pid:
            pid = fleet.services()["gates"]
            os.kill(pid, signal.SIGTERM)
    assert running.wait(30) == 0
    assert not born(pid)
    assert (rows[-1]["state"], rows[-1]["attempts"]) == ("in_review", 1)
    moves = [(row["data"]["state"], row["data"]["reason"]) for row in rows if row.get("kind") == "StateChanged"]
    assert moves.count(("gating", "handed_back")) == 1 and "lost" not in dict(moves).values()
    assert [row.get("kind") for row in rows].count("GatesStarted") == 2
