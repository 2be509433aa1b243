"""Everything that can be wrong with a model: each ends in the right state, and says in a sentence what to do.

The same failures at the loop are in tests/agents/test_session.py, at the gateway in tests/gateway/test_gateway.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from fleet.rehearsal.server import create_app
from tests.e2e.kit import Done, Fleet, fleet_home, repository
from tests.support.provider import provider
from tests.support.wait import eventually

KEY = "sk-ant-api03-canary-of-a-wrong-key-0123456789"
CAPS = {f"FLEET_{name}": "10" for name in ("CAPS_TICKETS", "CAPS_PER_REPO", "CAPS_PER_TENANT", "WORKERS_AGENTS")}
NO_PORT = "http://127.0.0.1:9"
LOOP = 'title = "x"\n[[turn]]\nrepeat = true\n[[turn.call]]\ntool = "shell"\ninput = { command = "date +%N" }\n'
TALK = 'title = "x"\n[[turn]]\nrepeat = true\ntext = "As a large language model I like turtles."\n'


async def bad(request: Request) -> Response:
    """What goes wrong is the name of the model."""
    model = (await request.json())["model"]
    key = request.headers.get("x-api-key", "") or request.headers.get("authorization", "")
    if model == "wrong-key":
        said = {"type": "authentication_error", "message": f"invalid x-api-key: {key}"}
        return JSONResponse({"type": "error", "error": said}, 401)
    if model == "unheard-of":
        return JSONResponse({"type": "error", "error": {"type": "not_found_error", "message": f"model: {model}"}}, 404)
    if model == "busy-for-an-hour":
        return JSONResponse({"error": {"message": "Rate limit reached."}}, 429, {"retry-after": "3600"})
    if model == "a-web-page":
        return PlainTextResponse("<html><title>Welcome to the hotel</title></html>", media_type="text/html")
    noise = b"event: message_start\ndata: {]\n\ndata: \xff\xfe\n\n"
    return Response(noise, media_type="text/event-stream")


def app() -> Starlette:
    routes = [Route("/bad/v1/{path:path}", bad, methods=["POST"]), Mount("/", create_app())]
    return Starlette(routes=routes)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with provider(app()) as made:
        yield made.url


@pytest.fixture(scope="module")
def fleet(url: str) -> Iterator[Fleet]:
    with fleet_home(
        None, ANTHROPIC_API_KEY="", OPENAI_API_KEY="", FLEET_SUPERVISION_BACKOFF_FIRST="600", **CAPS
    ) as one:
        yield one


@dataclass(frozen=True)
class Case:
    """``ends``: state and reason; ``says``: in its detail. ``base``: another address of OpenAI's."""

    agent: str
    ends: tuple[str, str]
    says: str
    base: str = ""
    env: dict[str, str] = field(default_factory=dict)


ONCE = {"FLEET_LIMITS_ATTEMPTS": "1"}
FOUR = {"FLEET_LIMITS_MODEL_CALLS": "4"}
PARKED, USED_UP, WAITS = ("parked", "config"), ("escalated", "attempts_used_up"), ("backing_off", "transient")
CASES = {
    # First, since it brings no key of this provider's.
    "no key": Case("openai", PARKED, "run the command again with OPENAI_API_KEY set"),
    "wrong key": Case("anthropic:wrong-key", PARKED, "Check the key."),
    "unknown model": Case("anthropic:unheard-of", PARKED, "Check the name of the model."),
    "unknown price": Case("anthropic:priceless", PARKED, "add it to prices.toml", env={"FLEET_LIMITS_USD": "1"}),
    "never stops": Case("loop", ("parked", "budget"), "has used its 4 model calls", env=FOUR),
    "only talks": Case("talk", USED_UP, "3 times in a row without using a tool", env=ONCE),
    "a web page": Case("anthropic:a-web-page", WAITS, "no answer of a model"),
    "noise": Case("anthropic:noise", WAITS, "no answer of a model"),
    "model down": Case("openai:any", WAITS, "openai cannot be reached", f"{NO_PORT}/v1"),
}


@pytest.fixture(scope="module")
def ended(fleet: Fleet, url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """All of them at once; what `fleet show --json` says of each when it rests."""
    repo = repository(tmp_path_factory.mktemp("bad") / "r")
    tickets = {
        name: ask(fleet, url, case, repo, repo.parent / f"{at}.toml") for at, (name, case) in enumerate(CASES.items())
    }

    def rest() -> bool:
        states = [row["state"] for row in fleet("ls", "--all", "--json").rows]
        return len(states) == len(CASES) and not {"queued", "starting", "running"} & set(states)

    assert eventually(rest, timeout=90.0, every=0.5), fleet("ls").out
    return {name: fleet("show", ticket, "--json") for name, ticket in tickets.items()}


def ask(fleet: Fleet, url: str, case: Case, repo: Path, script: Path) -> str:
    """Its ticket, accepted."""
    script.write_text(LOOP if case.agent == "loop" else TALK)
    agent = f"rehearsal:{script}" if case.agent in ("loop", "talk") else case.agent
    env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": f"{url}/bad", **case.env}
    if case.agent.startswith("openai:"):
        env |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": case.base or f"{url}/bad/v1"}
    words = ("run", "--json", "--detach", "--repo", str(repo), "--title", "Fix it", "--agent", agent)
    return str(fleet(*words, env=env).rows[-1]["ticket"])


@pytest.mark.invariant("I16")
@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_with_a_model_is_said_with_what_to_do(fleet: Fleet, ended: dict[str, Done], name: str) -> None:
    case, row = CASES[name], ended[name].result
    assert (row["state"], row["reason"]) == case.ends, row
    assert case.says in row["detail"], row["detail"]
    assert row["pull_request"] is None
    shown = fleet("show", row["ticket"]).out
    why = shown.splitlines()[0]
    assert case.says in why and ("tries again at" if case.ends == WAITS else "fleet retry") in why, shown
    # Some servers repeat the key in their error; it goes no further than the gateway.
    assert KEY not in ended[name].out + shown


@pytest.mark.invariant("I16")
@pytest.mark.invariant("I19")
def test_a_rate_limit_of_an_hour_waits_for_its_end(fleet: Fleet, ended: dict[str, Done], url: str, repo: Path) -> None:
    ticket = ask(fleet, url, Case("openai:busy-for-an-hour", ("", ""), ""), repo, repo.parent / "none.toml")
    assert ended
    rows: list[dict[str, object]] = []

    def waits() -> bool:
        rows[:] = fleet("show", ticket, "--json").rows
        return rows[-1]["state"] == "backing_off"

    assert eventually(waits, timeout=30.0, every=0.3), rows[-1]
    assert rows[-1]["reason"] == "provider_limit" and "Rate limit reached." in str(rows[-1]["detail"])
    (asked,) = [row["at"] for row in rows if row.get("kind") == "AttemptFailed"]
    (moved,) = [row["data"] for row in rows if row.get("kind") == "StateChanged" and "backing_off" in str(row["data"])]
    assert isinstance(moved, dict) and isinstance(asked, float) and moved["until"] >= asked + 3590, (moved, asked)
    assert "attempts      0 of 3" in fleet("show", ticket).out
    assert fleet("cancel", ticket).code == 0
