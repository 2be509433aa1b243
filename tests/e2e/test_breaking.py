"""Changes that must not become a pull request: refused with the exact new failures, or parked until a person looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.kit import FILES, TEST, Fleet, repository
from tests.realdata.projects import git

MORE = f"""{TEST}

def test_zero() -> None:
    assert double(0) == 0


def test_red_before() -> None:
    assert double(1) == 3
"""
WORKFLOW = "on: push\njobs: {}\n"
GATES = 'version = 1\n\n[gates.tests]\ncommand = "python -m pytest -q"\nkind = "tests"\n'


@pytest.mark.invariant("I5")
def test_a_breaking_command_is_refused_with_the_new_failures_alone(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "breaking", {**FILES, "tests/test_core.py": MORE})
    done = fleet.ticket(repo, "command:sed -i 's/2 [*] number/3 * number/' small/core.py", title="Triple it")
    row = done.result
    assert (done.code, row["state"], row["pull_request"]) == (3, "rejected", None), row
    told = row["detail"] + "".join(str(event["summary"]) for event in done.events("GateFinished"))
    assert "test_double" in told, told
    assert "test_zero" not in told and "test_red_before" not in told, told
    outcomes = {gate["name"]: gate["outcome"] for gate in row["gates"]}
    assert outcomes["tests"] == "failed" and outcomes["policy"] == "passed"
    assert "test_double" in fleet("show", row["ticket"]).out
    assert fleet.pulls("local/breaking") == []
    assert git(repo, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main"]


@pytest.mark.invariant("I5")
def test_new_findings_of_the_linter_are_refused_by_name(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "lint")
    done = fleet.ticket(repo, "command:sh -c 'echo import json >>small/__init__.py; echo x = y >>small/core.py'")
    row = done.result
    assert (done.code, row["reason"]) == (3, "gates_red"), row
    told = row["detail"] + "".join(str(event["summary"]) for event in done.events("GateFinished"))
    assert "F821" in told and "small/core.py" in told, told


def edited(name: str, line: str) -> str:
    return f"command:sh -c 'mkdir -p $(dirname {name}); echo \"{line}\" >>{name}'"


GUARDED = {
    "gate settings": (".fleet.toml", {".fleet.toml": GATES}, "# looser"),
    "new gate settings": (".fleet.toml", {}, "version = 1"),
    "conftest": ("conftest.py", {"conftest.py": "import os\n"}, "os.environ.clear()"),
    "workflow": (".github/workflows/ci.yml", {".github/workflows/ci.yml": WORKFLOW}, "# more"),
}


@pytest.mark.invariant("I12")
@pytest.mark.invariant("I13")
@pytest.mark.parametrize("case", GUARDED)
def test_a_change_of_gate_inputs_waits_for_a_person(fleet: Fleet, tmp_path: Path, case: str) -> None:
    name, files, line = GUARDED[case]
    repo = repository(tmp_path / "guarded", {**FILES, **files})
    done = fleet.ticket(repo, edited(name, line), title="Change a gate input")
    row = done.result
    assert (done.code, row["state"], row["reason"]) == (4, "parked", "approval"), row
    assert name in row["detail"] and row["pull_request"] is None
    shown = fleet("show", row["ticket"]).out.splitlines()[0]
    assert name in shown and "cancel" in shown, shown


CHEATS = {
    "deletes the tests": "command:rm tests/test_core.py",
    "deletes one test": "command:sed -i '/test_zero/,/== 0/d' tests/test_core.py",
    "skips a test": "command:sed -i 's/^def test_zero/@__import__(\"pytest\").mark.skip\\n&/' tests/test_core.py",
}


@pytest.mark.invariant("I12")
@pytest.mark.parametrize("case", CHEATS)
def test_weakened_tests_never_reach_a_pull_request_by_themselves(fleet: Fleet, tmp_path: Path, case: str) -> None:
    repo = repository(tmp_path / "cheats", {**FILES, "tests/test_core.py": MORE})
    done = fleet.ticket(repo, CHEATS[case], title="Make it green")
    row = done.result
    assert (done.code, row["state"], row["pull_request"]) == (4, "parked", None), row
    assert "test_core.py" in row["detail"] or "test_zero" in row["detail"], row["detail"]
    assert {gate["name"]: gate["outcome"] for gate in row["gates"]}["policy"] == "failed"
