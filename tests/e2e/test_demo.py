"""The demo as a newcomer runs it; it judges itself by the record, and this judges it by the forge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.demo.cast import CAST
from tests.e2e.kit import Fleet, environment, fleet_home


@pytest.mark.invariant("I8")
@pytest.mark.timeout(200)
def test_all_six_tickets_end_as_promised(tmp_path: Path) -> None:
    with fleet_home() as fleet:
        done = fleet("demo", "--json", timeout=180)
        assert done.code == 0, done.err + done.out[-2000:]
        last = json.loads(done.out.splitlines()[-1])
        assert last["kept"] is True
        assert [row["name"] for row in last["tickets"]] == [part.name for part in CAST]
        inside = Fleet(fleet.home / "demo", environment(fleet.home / "demo"))
        pulls = inside.pulls("local/tally")
        assert len(pulls) == 5 and all(pull["draft"] for pull in pulls)
        refused = next(row for row in last["tickets"] if row["name"] == "cheat")
        assert refused["pull_request"] is None
        spent = {row["name"]: row["cost"]["usd"] for row in last["tickets"]}
        assert spent["backlog"] == 0 and all(spent[name] > 0 for name in spent if name != "backlog")
        assert inside.stop() == {}
        inside.remove()


def test_a_live_demo_needs_a_key(tmp_path: Path) -> None:
    with fleet_home() as fleet:
        done = fleet("demo", "--live", env={"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": ""})
        assert done.code == 2
        assert "ANTHROPIC_API_KEY or OPENAI_API_KEY" in done.err
