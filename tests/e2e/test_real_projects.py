"""Real tickets on projects that none of us wrote, through the whole fleet: a gated pull request, or a named refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.kit import Done, Fleet
from tests.realdata.catalog import CASES, Case
from tests.realdata.index import IndexAway, index_answers
from tests.realdata.projects import git

pytestmark = pytest.mark.needs("bwrap")
PASSING = [pytest.param(case, id=case.key, marks=[pytest.mark.slow] * case.slow) for case in CASES if case.passes]
BREAKING = [pytest.param(case, id=case.key, marks=[pytest.mark.slow] * case.slow) for case in CASES if not case.passes]


@pytest.fixture(autouse=True)
def _index() -> None:
    if reason := index_answers():
        pytest.skip(reason)


def solve(fleet: Fleet, case: Case, folder: Path) -> tuple[Path, Done]:
    try:
        repo, agent = case.repository(folder), case.agent()
    except IndexAway as away:
        pytest.skip(str(away))
    words = ("run", "--json", "--repo", str(repo), "--issue", "-", "--agent", agent)
    return repo, fleet(*words, input=f"{case.title}\n\n{case.body}\n", timeout=280)


@pytest.mark.parametrize("case", PASSING)
def test_a_real_ticket_ends_in_a_gated_pull_request(fleet: Fleet, tmp_path: Path, case: Case) -> None:
    repo, done = solve(fleet, case, tmp_path)
    row = done.result
    assert (done.code, row["state"]) == (0, "in_review"), (row, done.err)
    outcomes = {gate["name"]: gate["outcome"] for gate in row["gates"]}
    assert outcomes["policy"] == "passed" and "tests" in outcomes, outcomes
    assert outcomes["tests"] == ("already_red" if case.already_red else "passed"), outcomes
    pull = row["pull_request"]
    found = fleet.api(f"/repos/{done.repo}/pulls/{pull['number']}")
    assert found["head"]["sha"] == pull["head_sha"] and found["draft"]
    changed = git(repo, "diff", "--name-only", "main", pull["local_ref"]).split()
    assert changed and (case.patch is None or set(changed) == set(case.patch[1]))
    assert case.title in found["title"]
    for test in case.reproduced:
        assert test.rpartition("::")[2] in found["body"], found["body"]


@pytest.mark.invariant("I5")
@pytest.mark.parametrize("case", BREAKING)
def test_a_real_ticket_that_breaks_tests_is_refused_by_their_names(fleet: Fleet, tmp_path: Path, case: Case) -> None:
    _, done = solve(fleet, case, tmp_path)
    row = done.result
    assert (done.code, row["state"], row["reason"], row["pull_request"]) == (3, "rejected", "gates_red", None), row
    told = row["detail"] + "".join(str(event["summary"]) for event in done.events("GateFinished"))
    for test in case.new_failures:
        assert test in told, (test, told)
    assert fleet.pulls(done.repo) == []
