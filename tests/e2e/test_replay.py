"""``fleet replay`` on a fleet that runs and on one that was stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import UNUSED, Fleet, fleet_home


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with fleet_home() as one:
        yield one


@pytest.mark.invariant("I17")
def test_a_log_is_told_again_whether_the_fleet_runs_or_not(fleet: Fleet, repo: Path) -> None:
    nothing = fleet("replay", "demo-1")
    assert nothing.code == 2 and "There is no record in" in nothing.sentence
    ticket = fleet.ticket(repo, UNUSED).result["ticket"]
    told = fleet("replay", ticket, "--json")
    assert told.code == 0, told.err
    steps = [row for row in told.rows if row["type"] == "step"]
    moves = [row["data"]["state"] for row in steps if row["kind"] == "StateChanged"]
    assert moves[0] == "starting" and moves[-1] == "in_review"
    assert told.rows[-1]["otherwise"] == 0 and told.rows[-1]["events"] == len(steps)
    checked = fleet("replay", ticket, "--check", "--json")
    assert checked.code == 0 and checked.rows[-1]["same"] and checked.rows[-1]["events"] >= len(steps)

    assert fleet("down").code == 0
    again = fleet("replay", ticket, "--json")
    assert again.code == 0, again.err
    # The status comment may have been brought up to date meanwhile, which the log tells, too.
    assert [row for row in again.rows if row["type"] == "step"][: len(steps)] == steps
    assert fleet("status").out.startswith("no fleet is running")
    assert fleet("clean").code == 0
    old, new = (fleet.layout.artifacts / "logs" / "abc" / name / "1.jsonl.gz" for name in ("demo-8-x", "demo-9-x"))
    for path in (old, new):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    cleaned = fleet("clean")
    assert cleaned.code == 0 and "removed 1 sealed logs" in cleaned.out, cleaned.err
    assert new.exists() and not old.parent.exists()
    assert not (fleet.layout.runtime / "redis.sock").exists(), "the store was only started to be read"
