"""The operator names agents in an order; a repository chooses among them, and nobody else comes in (I22)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.gateconfig import parse
from fleet.core.routes import default_agent, line_up
from fleet.core.settings import AgentSettings, Layer, SettingsError, resolve
from tests.support.mutants import Mutant

ROUTE = AgentSettings(route=("anthropic", "openai", "command:true"))
LINE = 'version = 1\n[agents]\nroute = ["openai", "anthropic"]\n'


def repo(text: str) -> Layer:
    return Layer(".fleet.toml of main", text)


@pytest.mark.parametrize(
    ("agents", "agent", "layer", "expected"),
    [
        (AgentSettings(), "anthropic", None, ("anthropic",)),
        (ROUTE, "anthropic", None, ("anthropic", "openai", "command:true")),
        (ROUTE, "openai", None, ("openai", "command:true")),
        (ROUTE, "command:true", None, ("command:true",)),
        # A person who names another one chose nobody to follow it.
        (ROUTE, "openai-chat:small", None, ("openai-chat:small",)),
        (ROUTE, "openai-chat:small", repo(LINE), ("openai-chat:small",)),
        # A default outside the route begins it.
        (AgentSettings("first", ("anthropic",)), "first", None, ("first", "anthropic")),
        (ROUTE, "anthropic", repo("version = 1\n"), ("anthropic", "openai", "command:true")),
        (ROUTE, "openai", repo(LINE), ("openai", "anthropic")),
        (ROUTE, "anthropic", repo(LINE), ("anthropic",)),
        # The default is left out by the repository: its own first one begins.
        (ROUTE, "anthropic", repo('[agents]\nroute = ["openai"]\n'), ("openai",)),
        (ROUTE, "anthropic", repo('[agents]\nroute = ["openai", "openai"]\n'), ("openai",)),
    ],
)
def test_who_begins_and_who_follows(
    agents: AgentSettings, agent: str, layer: Layer | None, expected: tuple[str, ...]
) -> None:
    assert line_up(agents, agent, layer) == expected


@pytest.mark.invariant("I22")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[agents]\nroute = ["rehearsal:free"]\n', "line 2: agents.route names 'rehearsal:free'"),
        ("[agents]\nroute = []\n", "no list of agents"),
        ('[agents]\nroute = "openai"\n', "no list of agents"),
        ("[agents]\nroute = [1]\n", "no list of agents"),
    ],
)
def test_a_repository_brings_nobody_in(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        line_up(ROUTE, "anthropic", repo(text))


NAMES = st.sampled_from(["anthropic", "openai", "openai-chat", "command:true", "rehearsal:x"])


@pytest.mark.invariant("I22")
@given(st.lists(NAMES, unique=True), st.lists(NAMES), NAMES)
def test_whoever_works_was_named_by_the_operator_or_the_person(known: list[str], asked: list[str], agent: str) -> None:
    agents = AgentSettings(route=tuple(known))
    try:
        line = line_up(agents, agent, repo(f"[agents]\nroute = {asked!r}\n"))
    except SettingsError:
        assert not asked or not set(asked) <= set(known)
        return
    assert set(line) <= {agent, *known}
    assert len(set(line)) == len(line)


def test_the_default_is_the_first_of_the_route() -> None:
    assert default_agent(AgentSettings()) == ""
    assert default_agent(ROUTE) == "anthropic"
    assert default_agent(AgentSettings("openai", ("anthropic",))) == "openai"
    layer = Layer("fleet.toml", '[agents]\nroute = ["anthropic", "openai"]\n')
    assert resolve(layer).agents.route == ("anthropic", "openai")


def test_the_gates_leave_the_table_to_others() -> None:
    assert parse(LINE.encode()).present


@pytest.mark.invariant("I22")
def test_a_floor_that_is_switched_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.core.routes:_narrowed", "if one not in known:", "if False:").install(monkeypatch)
    with pytest.raises(pytest.fail.Exception):
        test_a_repository_brings_nobody_in('[agents]\nroute = ["rehearsal:free"]\n', "names")
