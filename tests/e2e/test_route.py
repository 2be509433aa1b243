"""The operator's route on real processes: who fails is followed by the next one, and people see who works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.kit import ATTEMPT_ENDS, UNUSED, Fleet
from tests.realdata.projects import commit_all

pytestmark = pytest.mark.needs("bwrap")
FAILS = "command:test -e small/wanted.py"
ROUTE = {"FLEET_AGENTS_ROUTE": json.dumps([FAILS, UNUSED])}


def run(repo: Path) -> tuple[str, ...]:
    return ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports")


def test_the_next_agent_of_the_route_takes_over(fleet: Fleet, repo: Path) -> None:
    done = fleet(*run(repo), timeout=ATTEMPT_ENDS, env=ROUTE)
    assert (done.code, done.result["state"], done.result["attempts"]) == (0, "in_review", 2), done.err
    assert [row["agent"] for row in done.events("AttemptStarted")] == [FAILS, UNUSED]
    assert [row["agent"] for row in done.events("StateChanged") if row["agent"]] == [UNUSED]
    shown = fleet("show", done.result["ticket"]).out
    assert f"{UNUSED} (took over; {FAILS} began)" in shown
    assert f"{UNUSED} takes over" in shown


@pytest.mark.invariant("I22")
def test_a_repository_chooses_among_the_operator_s_agents_alone(fleet: Fleet, repo: Path) -> None:
    config = repo / ".fleet.toml"
    config.write_text(f"version = 1\n[agents]\nroute = {json.dumps([UNUSED])}\n")
    commit_all(repo, "the route")
    done = fleet(*run(repo), timeout=ATTEMPT_ENDS, env=ROUTE)
    assert [row["agent"] for row in done.events("AttemptStarted")] == [UNUSED]
    config.write_text('version = 1\n[agents]\nroute = ["command:true"]\n')
    commit_all(repo, "another one")
    refused = fleet(*run(repo), timeout=ATTEMPT_ENDS, env=ROUTE)
    assert refused.code == 2
    assert "line 3: agents.route names 'command:true', which the operator did not" in refused.sentence
