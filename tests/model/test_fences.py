"""All interleavings of a stale and a fresh attempt with kills; and each protection switched off is noticed."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.model.fences import Rules, Violated, explore

BROKEN_BY = {
    "single_use": "I3",
    "wanted": "I20",
    "lease": "I3",
    "unique": "I4",
    "bound": "I5",
    "result_last": "I5",
    "counted_first": "I8",
    "unbegun": "I3",
    "capped": "I8",
}


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I5")
@pytest.mark.invariant("I8")
@pytest.mark.invariant("I20")
@pytest.mark.parametrize(
    ("rules", "least"),
    [
        (Rules(kills=2), 2_000),
        (Rules(cap=1, turns=2), 1_000),
        (Rules(cap=3), 20_000),
        pytest.param(Rules(turns=2), 400_000, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_no_interleaving_breaks_a_promise(rules: Rules, least: int) -> None:
    assert explore(rules) > least


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I5")
@pytest.mark.invariant("I8")
@pytest.mark.invariant("I20")
@pytest.mark.parametrize("name", BROKEN_BY)
def test_a_protection_switched_off_breaks_its_promise(name: str) -> None:
    with pytest.raises(Violated, match=f"^{BROKEN_BY[name]}: "):
        explore(replace(Rules(), **{name: False}))


def test_every_protection_has_its_mutant() -> None:
    assert {one.name for one in fields(Rules) if one.type == "bool"} == set(BROKEN_BY)


def test_a_story_tells_every_step() -> None:
    with pytest.raises(Violated) as caught:
        explore(Rules(lease=False))
    lines = str(caught.value).splitlines()
    assert len(lines) > 10 and "begins work 1.0" in lines[1]
