"""The protections of I7 switched off one by one: the search must find what then leaks."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from fleet.adapters.sandbox import base
from fleet.gateway.app import Gateway
from tests.agents.conftest import API, Desk
from tests.agents.test_session import EDIT, FINISH, shell
from tests.support.canary import Scanner

KEY = "sk-canary-of-a-person-0123456789"
HUNT = shell("env | base64 > notes.txt; cat /proc/self/environ /proc/*/environ 2>/dev/null; cat notes.txt")


def hunted(desk: Desk, api: str, heard: list[bytes]) -> Scanner:
    """What an agent that hunts finds, and where it shows: events, workspace, prompts."""
    assert desk.work(HUNT + EDIT + FINISH, api) is None
    scanner = Scanner({"key": KEY})
    scanner.text("events", "events", repr(desk.events))
    scanner.tree("workspace", desk.ground.workspace)
    for body in heard:
        scanner.bytes("prompts", "prompt", body)
    return scanner


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every request that leaves the gateway."""
    bodies: list[bytes] = []
    real: Callable[..., object] = Gateway._ask

    async def kept(self: Gateway, request: object, to: object, call: object, granted: object) -> object:
        bodies.append(call.body)  # type: ignore[attr-defined]
        return await real(self, request, to, call, granted)  # type: ignore[misc]

    monkeypatch.setattr(Gateway, "_ask", kept)
    return bodies


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("api", API)
def test_nothing_of_the_fleets_own_environment_is_found(
    desk: Desk, api: str, heard: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    hunted(desk, api, heard).check("events", "workspace: files", "prompts")
    assert len(heard) == 3


@pytest.mark.invariant("I7")
def test_an_environment_that_is_passed_on_is_found(
    desk: Desk, heard: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setattr(base, "ENVIRONMENT", {**os.environ, **base.ENVIRONMENT})
    where = {leak.where.rpartition("/")[2] for leak in hunted(desk, "anthropic", heard).found}
    assert where == {"events", "notes.txt", "prompt"}
