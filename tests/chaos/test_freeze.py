"""Celery workers that stand still: noticed by the silence of their work, and nothing is done twice for it (I15)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.kit import Fleet, fleet_home, repository

SETTINGS = {"FLEET_SUPERVISION_LOST_AFTER": "7", "FLEET_SUPERVISION_CLAIM_WITHIN": "7"}
# The command takes long enough for its worker to be met alive.
WORK = "command:sh -c 'sleep 1; ruff check --fix --exit-zero --select F401 .'"


def stand_still(fleet: Fleet, service: str) -> int:
    pid = fleet.services()[service]
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.slow
@pytest.mark.invariant("I15")
@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
def test_workers_that_stand_still_cost_time_and_nothing_else(tmp_path: Path) -> None:
    """The worker that shows an attempt is not needed for it; the one whose gates fall silent is noticed."""
    tmp_path.chmod(0o755)
    with fleet_home(None, **SETTINGS) as fleet:
        repo = repository(tmp_path / "frozen")
        words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", WORK)
        running = fleet.start(*words)
        assert running.stdout is not None and running.stderr is not None
        frozen: dict[str, int] = {}
        lost, row = 0, {}
        try:
            for line in running.stdout:
                row = json.loads(line)
                if row.get("kind") == "AttemptStarted":
                    frozen["agents"] = stand_still(fleet, "agents")
                if row.get("kind") == "GatesStarted" and "gates" not in frozen:
                    frozen["gates"] = stand_still(fleet, "gates")
                if row.get("kind") == "StateChanged" and row["data"]["reason"] == "lost":
                    lost += 1
                    os.kill(frozen["gates"], signal.SIGCONT)
        finally:
            for pid in frozen.values():
                os.kill(pid, signal.SIGCONT)
        running.wait(60)
        pulls = fleet.pulls(f"local/{repo.name}")
        assert set(frozen) == {"agents", "gates"}
        assert lost == 1, "the silence of the gates was noticed once"
        assert (row["type"], row["state"], row["attempts"], len(pulls)) == ("result", "in_review", 1, 1), row
        assert row["pull_request"]["head_sha"] == pulls[0]["head"]["sha"]
