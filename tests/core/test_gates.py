"""The pass: nothing but a complete, matching, green set of records gives one (I5)."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.errors import InternalError
from fleet.core.gates import (
    PASSING,
    GateKind,
    GatePass,
    GatePlanRecord,
    GateRecord,
    Mode,
    NoPass,
    Outcome,
    TestCounts,
    make_pass,
)
from tests.support.mutants import Mutant

HEAD, BASE = "a" * 40, "b" * 40
NAMES = ("lint", "types", "tests", "policy")
PLAN = GatePlanRecord("demo-1-00000000", 1, 1, HEAD, BASE, "digest", NAMES, NAMES)
BOUND = ("ticket", "attempt", "head", "base_sha", "config_digest", "name")


def record(name: str, outcome: Outcome = Outcome.PASSED, mode: Mode = Mode.NO_REGRESSION, **more: Any) -> GateRecord:
    values = {"tests": TestCounts(3, 3), **more} if name == "tests" else more
    return GateRecord(
        PLAN.ticket, PLAN.attempt, HEAD, BASE, "digest", name, GateKind.COMMAND, mode, outcome, 1.0, "ok", **values
    )


RECORDS = tuple(record(name) for name in NAMES)
modes = st.sampled_from([Mode.NO_REGRESSION, Mode.ADVISORY])
passing = st.tuples(
    *(st.builds(record, st.just(name), st.sampled_from(sorted(PASSING, key=str)), modes) for name in NAMES)
)


def other(value: Any) -> Any:
    return value + 1 if isinstance(value, int) else f"{value}x"


@given(passing, st.randoms())
def test_a_complete_green_set_passes_in_any_order(records: tuple[GateRecord, ...], dice: random.Random) -> None:
    shuffled = list(records)
    dice.shuffle(shuffled)
    made = make_pass(PLAN, shuffled, HEAD)
    assert isinstance(made, GatePass)
    bound = (made.ticket, made.attempt, made.head, made.base_sha, made.config_digest)
    assert bound == (PLAN.ticket, 1, HEAD, BASE, "digest")
    assert not made.no_tests_ran


@pytest.mark.invariant("I5")
@given(passing, st.integers(0, 3))
def test_without_one_record_there_is_no_pass(records: tuple[GateRecord, ...], gone: int) -> None:
    assert isinstance(make_pass(PLAN, records[:gone] + records[gone + 1 :], HEAD), NoPass)


@pytest.mark.invariant("I5")
@given(passing, st.integers(0, 3), st.sampled_from(BOUND))
def test_a_record_about_anything_else_gives_no_pass(records: tuple[GateRecord, ...], which: int, field: str) -> None:
    altered = list(records)
    altered[which] = replace(altered[which], **{field: other(getattr(altered[which], field))})
    assert isinstance(make_pass(PLAN, altered, HEAD), NoPass)


@pytest.mark.invariant("I5")
@given(passing, st.integers(0, 3), st.sampled_from([one for one in Outcome if one not in PASSING]))
def test_one_outcome_that_is_not_passing_gives_no_pass(
    records: tuple[GateRecord, ...], which: int, outcome: Outcome
) -> None:
    altered = list(records)
    altered[which] = replace(altered[which], outcome=outcome)
    made = make_pass(PLAN, altered, HEAD)
    assert isinstance(made, NoPass)
    assert made.reasons == (f"{altered[which].name}: {outcome.value}",)


@pytest.mark.invariant("I5")
@given(passing, st.sampled_from([one.name for one in fields(GatePlanRecord)]))
def test_another_plan_gives_no_pass(records: tuple[GateRecord, ...], field: str) -> None:
    if field in ("round", "gates", "source"):
        return  # the round names the run, gates and source are for people
    value: Any = (*NAMES, "more") if field == "needed" else other(getattr(PLAN, field))
    assert isinstance(make_pass(replace(PLAN, **{field: value}), records, HEAD), NoPass)


@pytest.mark.invariant("I5")
@given(passing, st.integers(0, 3))
def test_a_second_word_about_the_same_gate_gives_no_pass(records: tuple[GateRecord, ...], twice: int) -> None:
    assert isinstance(make_pass(PLAN, (*records, records[twice]), HEAD), NoPass)


def test_no_plan_an_empty_plan_and_another_head_give_no_pass() -> None:
    assert isinstance(make_pass(None, RECORDS, HEAD), NoPass)
    assert isinstance(make_pass(replace(PLAN, needed=()), RECORDS, HEAD), NoPass)
    assert isinstance(make_pass(PLAN, RECORDS, "c" * 40), NoPass)
    assert isinstance(make_pass(PLAN, (), HEAD), NoPass)


def test_required_means_green_and_not_as_red_as_before() -> None:
    for mode, outcome, kind in [
        (Mode.REQUIRED, Outcome.ALREADY_RED, NoPass),
        (Mode.NO_REGRESSION, Outcome.ALREADY_RED, GatePass),
        (Mode.REQUIRED, Outcome.PASSED, GatePass),
    ]:
        records = (record("lint", outcome, mode), *RECORDS[1:])
        assert isinstance(make_pass(PLAN, records, HEAD), kind), (mode, outcome)


def test_a_run_without_tests_is_said_so() -> None:
    for counts in (None, TestCounts(), TestCounts(total=4, skipped=4)):
        records = (*RECORDS[:2], record("tests", tests=counts), RECORDS[3])
        made = make_pass(PLAN, records, HEAD)
        assert isinstance(made, GatePass)
        assert made.no_tests_ran


@pytest.mark.invariant("I5")
def test_a_pass_cannot_be_made_by_hand() -> None:
    for seal in (None, object(), True, "seal"):
        with pytest.raises(InternalError, match="make_pass only"):
            GatePass(PLAN.ticket, 1, HEAD, BASE, "digest", False, seal)
    with pytest.raises(InternalError):
        GatePass(PLAN.ticket, 1, HEAD, BASE, "digest", False)


# --- mutants: each comparison of _against switched off -----------------------------------------------------------
@pytest.mark.invariant("I5")
@pytest.mark.parametrize(
    ("old", "new", "forged"),
    [
        ("len(mine) != 1", "not mine", (*RECORDS, record("lint", Outcome.FAILED))),
        ("!= expected", "!= expected and False", (replace(RECORDS[0], head="c" * 40), *RECORDS[1:])),
        ("record.outcome not in PASSING", "False", (record("lint", Outcome.FAILED), *RECORDS[1:])),
        ("record.mode is Mode.REQUIRED", "False", (record("lint", Outcome.ALREADY_RED, Mode.REQUIRED), *RECORDS[1:])),
    ],
)
def test_a_comparison_switched_off_lets_a_forged_set_pass(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, forged: tuple[GateRecord, ...]
) -> None:
    assert isinstance(make_pass(PLAN, forged, HEAD), NoPass)
    Mutant("fleet.core.gates:_against", old, new).install(monkeypatch)
    assert isinstance(make_pass(PLAN, forged, HEAD), GatePass)
