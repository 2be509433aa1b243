"""An agent asks, a person answers with the word that people already use, and the ticket goes on to its pull request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.kit import ATTEMPT_ENDS, Fleet

pytestmark = pytest.mark.needs("bwrap")
SCRIPT = """\
[[turn]]
attempts = "1"
[[turn.call]]
tool = "ask_person"
input = { question = "May the name change?" }

[[turn]]
attempts = "2+"
[[turn.call]]
tool = "shell"
input = { command = "ruff check -q --fix --exit-zero --select F401 ." }

[[turn]]
attempts = "2+"
[[turn.call]]
tool = "finish"
input = { summary = "done" }
"""


def test_a_question_is_shown_answered_and_acted_on(fleet: Fleet, repo: Path, tmp_path: Path) -> None:
    script = tmp_path / "asks.toml"
    script.write_text(SCRIPT)
    words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", f"rehearsal:{script}")
    asked = fleet(*words, timeout=ATTEMPT_ENDS)
    assert (asked.code, asked.result["reason"]) == (4, "needs_input"), asked.err
    ticket = asked.result["ticket"]
    shown = fleet("show", ticket)
    assert "May the name change?" in shown.out and f"fleet steer {ticket}" in shown.out
    assert "queued again" in fleet("steer", ticket, "No, only the imports.").out
    done = fleet("show", "-f", "--json", ticket, timeout=ATTEMPT_ENDS)
    assert (done.code, done.result["state"]) == (0, "in_review"), done.out[-1500:]
