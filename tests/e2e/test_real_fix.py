"""Upstream's own fixes of real bugs in real projects, made by the built-in loops: gated pull requests that show them.

The model is the scripted one, everything else is as with a real one: SDK, gateway, tools, sandbox, gates, publisher.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.kit import Done, Fleet
from tests.realdata.fixes import FIXES, Fix
from tests.realdata.index import IndexAway, index_answers
from tests.realdata.projects import git

pytestmark = pytest.mark.needs("bwrap")
FORMS = {"wtforms": ("anthropic", "openai"), "jinja2": ("anthropic", "openai", "openai-chat")}
QUICK = {("wtforms", "anthropic")}
CASES = [
    pytest.param(fix, form, id=f"{fix.key}-{form}", marks=[] if (fix.key, form) in QUICK else [pytest.mark.long])
    for fix in FIXES
    for form in FORMS.get(fix.key, ("anthropic", "openai"))
]


@pytest.fixture(autouse=True)
def _index() -> None:
    if reason := index_answers():
        pytest.skip(reason)


def solve(fleet: Fleet, fix: Fix, form: str, folder: Path) -> tuple[Path, Done]:
    try:
        repo, script = fix.repository(folder), fix.script(folder / "script.toml")
    except IndexAway as away:
        pytest.skip(str(away))
    words = ("run", "--json", "--repo", str(repo), "--issue", "-", "--agent", f"rehearsal:{script}@{form}")
    return repo, fleet(*words, input=f"{fix.title}\n\n{fix.body}\n", timeout=280)


@pytest.mark.timeout(300)
@pytest.mark.invariant("I5")
@pytest.mark.parametrize(("fix", "form"), CASES)
def test_the_true_fix_of_a_true_bug_becomes_a_gated_pull_request(
    fleet: Fleet, tmp_path: Path, fix: Fix, form: str
) -> None:
    repo, done = solve(fleet, fix, form, tmp_path)
    row = done.result
    assert (done.code, row["state"]) == (0, "in_review"), (row, done.err)
    assert len(git(repo, "ls-files").splitlines()) >= fix.least_files
    pull = row["pull_request"]
    found = fleet.api(f"/repos/{done.repo}/pulls/{pull['number']}")
    head = found["head"]["sha"]
    assert found["draft"] and head == pull["head_sha"]
    # Exactly this commit was gated, and its diff is upstream's.
    (gated,) = done.events("GatesFinished")
    assert gated["passed"] and gated["head"] == head
    assert set(git(repo, "diff", "--name-only", "main", pull["local_ref"]).split()) == fix.paths
    for edit in fix.edits():
        assert edit.new in git(repo, "show", f"{pull['local_ref']}:{edit.path}")
    outcomes = {gate["name"]: gate["outcome"] for gate in row["gates"]}
    assert outcomes["policy"] == "passed" and outcomes["tests"] in ("passed", "already_red"), outcomes
    evidence = json.loads(evidence_of(fleet, row["ticket"]).read_text())
    assert evidence["head"] == head
    assert set(fix.reproduced) <= set(evidence["reproduced"]), evidence["reproduced"]
    # The agent saw the bug and then its end, by the tests that it ran itself.
    runs = [event for event in done.events("ToolFinished") if "passed" in event["tail"] or "failed" in event["tail"]]
    assert [event["exit"] for event in runs] == [1, 0], runs
    assert row["cost"]["usd"] > 0 and row["attempts"] == 1


def evidence_of(fleet: Fleet, ticket: str) -> Path:
    (found,) = [path for path in fleet.layout.artifacts.rglob("evidence.json") if ticket in str(path)]
    return found
