"""Every attack of the corpus on every tier, and the same attack without a sandbox as its control."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.conftest import CORPUS, Box, Ground, unsandboxed
from tests.sandbox.corpus import ATTACKS, NO_CONTROL

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
YAMA_STOPS = {"trace_victim", "read_victim_memory"}
NEEDS_NAMESPACES = {"new_user_namespace", "new_network_namespace", "clone_user_namespace", "clone3_user_namespace"}
MADE_BY_THE_PARENT = {"read_parent_environment"}


def _attack(box: Box, name: str, targets: dict[str, Any]) -> str:
    # the canaries stand where a careless sandbox would pass them on: our environment and an inheritable descriptor
    result = box.py(CORPUS.read_text(), name, json.dumps(targets), read_only=(Path(targets["toolchain"]),))
    return result.stdout.decode() + result.stderr.decode()


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_held(box: Box, targets: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", targets["canary"])
    leak = os.open(targets["secret"], os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        said = _attack(box, name, targets)
    finally:
        os.close(leak)
    assert said.startswith("HELD"), said
    assert Path(targets["secret"]).read_text() == targets["marker"]
    assert sorted(os.listdir(targets["outside"])) == ["secret"]
    assert os.listdir(targets["toolchain"]) == []


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - NO_CONTROL - MADE_BY_THE_PARENT))
def test_control_attack_succeeds_without_a_sandbox(ground: Ground, targets: dict[str, Any], name: str) -> None:
    if name in YAMA_STOPS and YAMA.exists() and YAMA.read_text().strip() != "0":
        assert "HELD" in unsandboxed(ground, name, targets)
        return
    said = unsandboxed(ground, name, targets)
    allowed = {"BREACH", "HELD"} if name in NEEDS_NAMESPACES else {"BREACH"}
    assert said.split()[0] in allowed, said
