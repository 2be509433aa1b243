"""A ticket that the fleet gives up, on real processes: the issue says so and why, and what was done can be fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hub import Hub, github
from tests.e2e.kit import Fleet, fleet_home, repository
from tests.realdata.projects import git
from tests.support.wait import eventually

pytestmark = pytest.mark.needs("bwrap")
REPO = "octo/small"
SETTINGS = {"FLEET_INTAKE_POLL_SECONDS": "1", "FLEET_SUPERVISION_BACKOFF_FIRST": "0.1", "FLEET_LIMITS_ATTEMPTS": "2"}
# Leaves something behind, and then only talks.
TALKS = """\
[[turn]]
[[turn.call]]
tool = "write"
input = { path = "small/half.py", content = "HALF = 1\\n" }

[[turn]]
text = "I think that it is done."
repeat = true
"""


@pytest.fixture
def given_up(tmp_path: Path) -> Iterator[tuple[Fleet, Hub, int, dict[str, Any]]]:
    """A labelled issue whose two agents only talk."""
    scripts = []
    for name in ("one", "two"):
        scripts.append(tmp_path / f"{name}.toml")
        scripts[-1].write_text(TALKS)
    first, second = (f"rehearsal:{script}" for script in scripts)
    with github(tmp_path / "forge") as hub:
        hub.repository(REPO, repository(tmp_path / "small"))
        settings = {**SETTINGS, "FLEET_AGENTS_ROUTE": json.dumps([first, second])}
        with fleet_home(None, **hub.env(), **settings) as fleet:
            up = fleet("up", "--repo", REPO, "--label", "fleet", "--json")
            assert up.code == 0, up.err
            issue = hub.issue(REPO, "Finish the half", labels=("fleet",))

            def row() -> dict[str, Any]:
                rows = fleet("ls", "--all", "--json").rows
                return next((row for row in rows if row["issue"].endswith(f"#{issue.number}")), {})

            assert eventually(lambda: row().get("state") == "escalated", 90.0, 0.5), row()
            yield fleet, hub, issue.number, row()


def test_an_escalation_is_a_comment_a_label_and_work_that_can_be_fetched(
    given_up: tuple[Fleet, Hub, int, dict[str, Any]], tmp_path: Path
) -> None:
    fleet, hub, number, row = given_up
    assert eventually(lambda: "fleet:escalated" in hub.labels(REPO, number), 20.0, 0.3)
    assert "fleet" not in hub.labels(REPO, number)
    (comment,) = hub.comments(REPO, number)
    for words in ("given up: a person must look", "protocol violation", "unfinished, kept", "two.toml",
                  "What you can do", f"fleet retry {row['ticket']}", "put the label `fleet` on again"):  # fmt: skip
        assert words in comment, comment
    assert hub.pulls(REPO) == []
    shown = fleet("show", row["ticket"])
    assert "two.toml (took over;" in shown.out
    history = fleet("show", "--json", row["ticket"]).result["history"]
    assert [one["ended"] for one in history] == ["protocol_violation", "attempts_used_up"]
    bundle = fleet.layout.artifacts / "tickets" / row["ticket"] / "escalation.json"
    told = json.loads(bundle.read_text())
    assert [one["attempt"] for one in told["attempts"]] == [1, 2]
    assert all(one["kept"].endswith("partial.bundle") for one in told["attempts"])
    clone = repository(tmp_path / "clone")
    git(clone, "fetch", history[-1]["bundle"], "refs/fleet/change:half")
    assert git(clone, "show", "half:small/half.py").strip() == "HALF = 1"
