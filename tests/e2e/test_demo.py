"""The demo as a newcomer runs it; it judges itself by the record, and this judges it by the forge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from fleet.demo.cast import CAST
from fleet.rehearsal.server import create_app
from tests.e2e.kit import Fleet, environment, fleet_home
from tests.support.provider import provider


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


def test_a_live_demo_asks_the_real_provider_with_the_real_key() -> None:
    """The provider is stood in for on its own protocol: it answers what the script of this ticket says."""
    inner = create_app()

    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        told = [json.dumps({**json.loads(body), "model": "rehearsal/demo-clean"}).encode()]

        async def scripted() -> Message:
            return {"type": "http.request", "body": told.pop(), "more_body": False} if told else await receive()

        await inner(scope, scripted, send)

    with provider(live) as real, fleet_home() as fleet:
        key = "sk-ant-only-for-this-test"
        env = {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": f"{real.url}/anthropic", "OPENAI_API_KEY": ""}
        inside = Fleet(fleet.home / "demo", environment(fleet.home / "demo"))
        try:
            done = fleet("demo", "--live", "--json", timeout=180, env=env)
        finally:
            assert inside.stop() == {}
            inside.remove()
        assert done.code == 0, done.err + done.out[-2000:]
        (only,) = done.rows[-1]["tickets"]
        assert only["kept"] is True and only["state"] == "in_review" and only["cost"]["usd"] > 0
        calls = [one for one in real.asked if one.path.endswith("/messages")]
        assert len(calls) >= 3 and {one.headers["x-api-key"] for one in calls} == {key}
