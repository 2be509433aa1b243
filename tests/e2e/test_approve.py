"""A person allows what policy asks about, in exactly the commit they looked at; the pull request says who did."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.kit import ATTEMPT_ENDS, Fleet
from tests.realdata.projects import git

TOUCHES = "command:sh -c 'ruff check -q --fix --exit-zero --select F401 . && echo \"# mine\" > conftest.py'"


def test_a_parked_change_is_shown_allowed_and_published(fleet: Fleet, repo: Path) -> None:
    words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", TOUCHES)
    parked = fleet(*words, timeout=ATTEMPT_ENDS)
    assert (parked.code, parked.result["reason"]) == (4, "approval"), parked.err
    ticket = parked.result["ticket"]
    assert fleet.pulls(parked.repo) == []

    shown = fleet("show", ticket)
    assert f"fleet approve {ticket}" in shown.out
    asked = fleet("approve", ticket)
    assert asked.code == 2 and "conftest.py" in asked.out and "Nothing was allowed" in asked.sentence
    assert fleet.pulls(parked.repo) == []

    allowed = fleet("approve", ticket, "--yes", env={"USER": "ann"})
    assert allowed.code == 0 and "approved by ann" in allowed.out, allowed.err
    done = fleet("show", "-f", "--json", ticket, timeout=ATTEMPT_ENDS)
    assert (done.code, done.result["state"]) == (0, "in_review"), done.out[-1500:]
    assert done.result["attempts"] == 1, "nothing was done again but the gates"
    (pull,) = fleet.pulls(parked.repo)
    assert "allowed by ann" in pull["body"] and "conftest.py" in pull["body"]
    assert git(fleet.bare(parked.repo), "show", f"{pull['head']['sha']}:conftest.py").strip() == "# mine"
    again = fleet("approve", ticket, "--yes")
    assert again.code == 2 and "in review" in again.sentence
