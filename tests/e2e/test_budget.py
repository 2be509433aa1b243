"""A ticket that has spent its share asks; a person allows more, and it goes on from what it had done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import ATTEMPT_ENDS, Fleet, fleet_home
from tests.realdata.projects import git
from tests.support.wait import eventually

pytestmark = pytest.mark.needs("bwrap")
# The first attempt does half of the work; the second one finds it, and does the other half.
SCRIPT = """\
title = "In two halves"
[[turn]]
attempts = "1"
[[turn.call]]
tool = "shell"
input = { command = "sed -i '/^import os$/d' small/core.py" }
[[turn]]
attempts = "2+"
[[turn.call]]
tool = "shell"
input = { command = "grep -q 'import os' small/core.py || sed -i '/^import sys$/d' small/core.py" }
[[turn]]
[[turn.call]]
tool = "finish"
input = { summary = "Both are gone." }
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_home(FLEET_LIMITS_USD="1", FLEET_BUDGET_SOFT="0.001", FLEET_BUDGET_DAY_USD="3") as one:
        yield one


@pytest.mark.invariant("I8")
def test_it_asks_is_allowed_more_and_goes_on(fleet: Fleet, repo: Path) -> None:
    script = repo.parent / "halves.toml"
    script.write_text(SCRIPT)
    asked = fleet.ticket(repo, f"rehearsal:{script}")
    assert (asked.code, asked.result["state"], asked.result["reason"]) == (4, "parked", "budget"), asked.err
    ticket = asked.result["ticket"]
    shown = fleet("show", ticket).out
    assert "asks before it spends more" in shown and f"fleet approve {ticket} --usd" in shown, shown
    said: list[str] = []

    def told() -> bool:
        said[:] = [row["body"] for row in fleet.api(f"/repos/{asked.repo}/issues/1/comments")]
        return any("parked" in text for text in said)

    assert eventually(told, timeout=30.0), said
    assert any("It asks for money" in text and f"fleet approve {ticket} --usd" in text for text in said), said

    for amount in ("nan", "-1", "0", "1e9", "all"):
        assert fleet("approve", ticket, "--usd", amount).code == 2
    allowed = fleet("approve", ticket, "--usd", "1", "--json", env={"USER": "ann"})
    assert allowed.code == 0 and allowed.rows[-1] | {"v": 1} == {
        "v": 1, "type": "told", "ticket": ticket, "what": "approved", "usd": 1.0, "by": "ann", "goes_on": True,
        "at_forge": True,
    }  # fmt: skip
    done = fleet("show", "-f", "--json", ticket, timeout=ATTEMPT_ENDS)
    assert (done.code, done.result["state"]) == (0, "in_review"), done.out[-1500:]
    head = done.result["pull_request"]["head_sha"]
    assert "import" not in git(fleet.bare(asked.repo), "show", f"{head}:small/core.py"), "both halves"

    row = fleet("show", ticket, "--json").rows[-1]["money"]
    assert row["limit_usd"] == 2.0 and 0 < row["spent_usd"] < 2.0 and row["reserved_usd"] == 0
    (listed,) = [one for one in fleet("ls", "--all", "--json").rows if one["ticket"] == ticket]
    assert listed["money"] == row
    shown = fleet("show", ticket).out
    assert "ann allows $1 more" in shown and "1 of 3" in shown, shown


@pytest.mark.invariant("I13")
def test_a_comment_on_the_issue_allows_more(fleet: Fleet, repo: Path) -> None:
    script = repo.parent / "halves.toml"
    script.write_text(SCRIPT)
    asked = fleet.ticket(repo, f"rehearsal:{script}")
    assert (asked.code, asked.result["reason"]) == (4, "budget"), asked.err
    ticket = asked.result["ticket"]
    fleet.post(f"/repos/{asked.repo}/issues/1/comments", {"body": "/fleet approve $0.50"})

    def heard() -> bool:
        return "may spend $0.5 more" in fleet("show", ticket).out

    assert eventually(heard, timeout=60.0, every=0.5), fleet("show", ticket).out
    done = fleet("show", "-f", "--json", ticket, timeout=ATTEMPT_ENDS)
    assert (done.code, done.result["state"]) == (0, "in_review"), done.out[-1500:]
    (said,) = done.events("CommentHeard")
    assert (said["by"], said["verb"], said["usd"]) == ("local", "approve", 0.5)

    def answered() -> bool:
        rows = fleet.api(f"/repos/{asked.repo}/issues/1/comments")
        return any("may spend $0.5 more" in row["body"] and row["user"]["login"] == "fleet-bot" for row in rows)

    assert eventually(answered, timeout=30.0, every=0.5)


def test_what_was_spent_and_what_may_be_is_seen(fleet: Fleet) -> None:
    money = fleet("status", "--json").rows[-1]["money"]
    assert money["day"]["limit_usd"] == 3.0 and money["day"]["spent_usd"] == money["fleet"]["spent_usd"] > 0
    assert money["fleet"]["limit_usd"] == 93.0 and money["tenants"] == {}
    said = fleet("status").out
    assert "of $3 spent" in said and "of $93 spent" in said
