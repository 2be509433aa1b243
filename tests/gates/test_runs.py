"""Real gates in the real sandbox on small repositories."""

from __future__ import annotations

import pytest

from fleet.core.gates import Outcome
from tests.gates.conftest import World, record

pytestmark = [pytest.mark.needs("bwrap")]

CODE = "def add(a, b):\n    return a + b\n"
TESTS = "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n\n\ndef test_zero():\n    assert add(0, 0) == 0\n"
REPO = {"calc.py": CODE, "test_calc.py": TESTS}


@pytest.mark.invariant("I5")
def test_a_harmless_change_passes_every_gate(world: World) -> None:
    gated = world.gate(REPO, {"calc.py": '"""Sums."""\n\n\n' + CODE})
    assert gated.verdict.passed, gated.verdict.summary
    assert {one.name: one.outcome for one in gated.records if one.name in gated.plan.needed} == {
        "policy": Outcome.PASSED,
        "syntax": Outcome.PASSED,
        "tests": Outcome.PASSED,
    }
    tests = record(gated, "tests")
    assert tests.tests is not None and (tests.tests.total, tests.tests.passed) == (2, 2)
    assert tests.tier in ("bubblewrap", "landlock") and tests.digest
    assert b"2 passed" not in (world.artifacts.get(tests.log) or b"")[:10]


@pytest.mark.invariant("I5")
def test_a_breaking_change_is_refused_and_its_new_failure_named(world: World) -> None:
    gated = world.gate(REPO, {"calc.py": "def add(a, b):\n    return a - b\n"})
    assert not gated.verdict.passed and not gated.verdict.needs
    assert [one.code for one in record(gated, "tests").new] == ["test_calc.py::test_add"]
    assert "test_calc.py::test_add" in gated.verdict.summary
