"""An attempt outlives everything around it but its guard: the others are ended at its work, and it is found again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.kit import Fleet, children, fleet_home, repository
from tests.support.wait import eventually

WORK = "command:sh -c 'sleep 9; ruff check --fix --exit-zero --select F401 .'"
AROUND = ("supervisor", "intake", "agents", "attempts")


def begun(fleet: Fleet, ticket: str) -> int:
    """How often a Celery task about the ticket's attempt began."""
    lines = (fleet.layout.logs / "agents.log").read_text().splitlines()
    return sum(ticket in line and "begins" in line for line in lines)


@pytest.mark.slow
@pytest.mark.invariant("I18")
@pytest.mark.invariant("I6")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
def test_an_attempt_outlives_all_around_it_and_is_found_again(tmp_path: Path, number: signal.Signals) -> None:
    tmp_path.chmod(0o755)
    with fleet_home() as fleet:
        repo = repository(tmp_path / "outlive")
        words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", WORK)
        running = fleet.start(*words)
        assert running.stdout is not None
        rows = []
        for line in running.stdout:
            rows.append(json.loads(line))
            if rows[-1].get("kind") == "ToolStarted":
                before = fleet.services()
                (guard,) = children(before["attempts"])
                for name in AROUND:
                    os.kill(before[name], number)
                assert eventually(lambda: all(fleet.services().get(name, 0) for name in AROUND), 20)
                assert eventually(lambda: begun(fleet, rows[0]["ticket"]) >= 2, 20), "it is a running task again"
                assert Path(f"/proc/{guard}").exists()
        assert running.wait(30) == 0
        after = fleet.services()
        assert not {before[name] for name in AROUND} & set(after.values())
        assert (rows[-1]["state"], rows[-1]["attempts"]) == ("in_review", 1)
        assert [row.get("kind") for row in rows].count("AttemptStarted") == 1
