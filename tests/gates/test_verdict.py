"""The verdict fails closed: less evidence never passes more, and order does not matter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_gates import verdict
from ci_gates.edits import Breach, Weight
from ci_gates.policy import PolicyResult
from ci_gates.runs import Diagnostic, Health, Report, Run, TestResult, TestStatus
from fleet.core.gates import (
    PASSING,
    GateKind,
    GatePlanRecord,
    GateRecord,
    GateSpec,
    Mode,
    Outcome,
    TestCounts,
    VerdictRecord,
)
from fleet.core.sandbox import Ending

LINT = GateSpec("lint", GateKind.LINT, Mode.NO_REGRESSION, ("ruff", "check"), "ruff")
TESTS = GateSpec("tests", GateKind.TESTS, Mode.NO_REGRESSION, ("pytest",), "pytest")
PLAN = GatePlanRecord("t", 1, 1, "h", "b", "c", ("policy", "lint", "tests"), ("policy", "lint", "tests"))
FINE = PolicyResult(())
D = Diagnostic("a.py", 1, "E", "m", "x")


def run(*found: Diagnostic, ending: Ending = Ending.EXITED, health: Health = Health.CLEAN) -> Run:
    return Run(ending, 1 if found else 0, 1.0, Report(health, "why", found))


def suite(ending: Ending = Ending.EXITED, **status: TestStatus) -> Run:
    results = tuple(TestResult(f"t.py::{name}", one) for name, one in status.items())
    return Run(ending, 0, 1.0, Report(tests=results, collected=len(results)))


def record(name: str, outcome: Outcome = Outcome.PASSED) -> GateRecord:
    kind = {"policy": GateKind.POLICY, "tests": GateKind.TESTS}.get(name, GateKind.LINT)
    counts = TestCounts(2, 2) if name == "tests" else None
    return GateRecord("t", 1, "h", "b", "c", name, kind, Mode.NO_REGRESSION, outcome, 1.0, "s", tests=counts)


ALL = (record("policy"), record("lint"), record("tests"))


def concluded(*records: GateRecord, policy: PolicyResult = FINE, allowed: bool = False) -> VerdictRecord:
    return verdict.conclude(PLAN, records, policy=policy, empty=False, allow_no_tests=allowed)


@pytest.mark.invariant("I5")
@pytest.mark.parametrize(
    ("mode", "base", "head", "outcome"),
    [
        (Mode.NO_REGRESSION, run(), run(), Outcome.PASSED),
        (Mode.NO_REGRESSION, run(), run(D), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(D), run(D), Outcome.ALREADY_RED),
        (Mode.NO_REGRESSION, run(D), run(), Outcome.FIXED),
        (Mode.NO_REGRESSION, None, run(D), Outcome.FAILED),
        (Mode.NO_REGRESSION, None, run(), Outcome.PASSED),
        (Mode.REQUIRED, run(D), run(D), Outcome.FAILED),
        (Mode.REQUIRED, run(D), run(), Outcome.FIXED),
        (Mode.ADVISORY, run(), run(D), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(health=Health.BROKEN), run(), Outcome.PASSED),
        (Mode.NO_REGRESSION, run(health=Health.BROKEN), run(D), Outcome.FAILED),  # what base was like nobody knows
        (Mode.NO_REGRESSION, run(health=Health.BROKEN), run(health=Health.BROKEN), Outcome.ALREADY_RED),
        (Mode.REQUIRED, run(health=Health.BROKEN), run(health=Health.BROKEN), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(), run(health=Health.BROKEN), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(health=Health.FORGED), run(health=Health.FORGED), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(health=Health.UNREADABLE), run(health=Health.UNREADABLE), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(ending=Ending.TIMED_OUT), run(ending=Ending.TIMED_OUT), Outcome.TIMED_OUT),
        (Mode.NO_REGRESSION, run(), run(ending=Ending.MEMORY), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(ending=Ending.MEMORY), run(ending=Ending.MEMORY), Outcome.FAILED),
        (Mode.NO_REGRESSION, run(), run(ending=Ending.CANCELLED), Outcome.NOT_RUN),
        (Mode.NO_REGRESSION, run(ending=Ending.NOT_FOUND), run(ending=Ending.NOT_FOUND), Outcome.NOT_CONFIGURED),
        (Mode.NO_REGRESSION, run(), run(ending=Ending.NOT_FOUND), Outcome.FAILED),
    ],
)
def test_outcomes(mode: Mode, base: Run | None, head: Run, outcome: Outcome) -> None:
    assert verdict.settle(replace(LINT, mode=mode), base, head).outcome is outcome


@pytest.mark.invariant("I5")
@given(
    st.sampled_from(Ending),
    st.sampled_from(Health),
    st.sampled_from(Ending),
    st.sampled_from(Health),
    st.sampled_from(Mode),
    st.booleans(),
)
def test_a_run_that_is_not_clean_passes_only_where_base_is_broken_too(
    base_end: Ending, base_health: Health, end: Ending, health: Health, mode: Mode, red: bool
) -> None:
    found = (D,) if red else ()
    settled = verdict.settle(
        replace(LINT, mode=mode),
        run(*found, ending=base_end, health=base_health),
        run(*found, ending=end, health=health),
    )
    ended = (Ending.EXITED, Ending.SIGNALED)
    if settled.outcome in PASSING and (end not in ended or health is not Health.CLEAN):
        assert end in ended and base_end in ended and health is base_health is Health.BROKEN
        assert mode is not Mode.REQUIRED


@pytest.mark.invariant("I5")
@given(st.permutations(ALL), st.sets(st.sampled_from(["policy", "lint", "tests"])))
def test_order_does_not_matter_and_a_subset_never_passes(records: list[GateRecord], gone: set[str]) -> None:
    found = concluded(*(one for one in records if one.name not in gone))
    assert found.passed is not bool(gone)


@pytest.mark.invariant("I5")
@given(st.lists(st.sampled_from(Outcome), min_size=3, max_size=3), st.booleans())
def test_it_passes_exactly_when_each_needed_gate_does(outcomes: list[Outcome], allowed: bool) -> None:
    records = [record(name, outcome) for name, outcome in zip(PLAN.needed, outcomes, strict=True)]
    found = concluded(*records, allowed=allowed)
    assert found.passed is all(outcome in PASSING for outcome in outcomes)
    assert not (found.passed and (found.needs or found.infrastructure))


@pytest.mark.invariant("I5")
def test_a_record_of_another_commit_or_a_second_one_is_none() -> None:
    assert concluded(*ALL).passed
    for change in ({"head": "x"}, {"base_sha": "x"}, {"config_digest": "x"}, {"attempt": 2}, {"ticket": "u"}):
        assert not concluded(ALL[0], ALL[1], replace(ALL[2], **change)).passed
    assert not concluded(*ALL, ALL[1]).passed


def test_what_the_verdict_asks_for() -> None:
    refused = PolicyResult((Breach(Weight.REFUSE, "secret", "a", 1, "m"), Breach(Weight.ASK, "binary", "b", 0, "m")))
    asks = PolicyResult((Breach(Weight.ASK, "binary", "b", 0, "m"),))
    not_run = [record("policy", Outcome.FAILED), record("lint", Outcome.NOT_RUN), record("tests", Outcome.NOT_RUN)]
    assert concluded(*not_run, policy=refused).needs == ""
    assert concluded(*not_run, policy=asks).needs == "approval"
    assert not concluded(*not_run, policy=refused).infrastructure
    assert concluded(ALL[0], ALL[1], record("tests", Outcome.NOT_CONFIGURED)).needs == "no_gates"
    assert concluded(ALL[0], ALL[2], record("lint", Outcome.NOT_CONFIGURED)).needs == "config"
    infra = concluded(ALL[0], ALL[1], record("tests", Outcome.INFRASTRUCTURE))
    assert infra.infrastructure and not infra.needs
    both = concluded(ALL[0], record("lint", Outcome.FAILED), record("tests", Outcome.INFRASTRUCTURE))
    assert not both.infrastructure and both.summary.startswith("lint")
    mixed = concluded(ALL[0], record("lint", Outcome.FAILED), record("tests", Outcome.NOT_CONFIGURED))
    assert mixed.needs == "" and not mixed.passed
    silent = replace(ALL[2], tests=TestCounts(3, 0, 0, 3))
    assert concluded(ALL[0], ALL[1], silent).needs == "no_gates"
    assert concluded(ALL[0], ALL[1], silent, allowed=True).summary.startswith("NO TESTS RAN")


@pytest.mark.parametrize(
    ("passed_again", "flaky_on_base", "outcome"),
    [
        ({"t.py::a"}, {"t.py::a"}, Outcome.FLAKY),
        ({"t.py::a"}, set(), Outcome.FAILED),
        (set(), {"t.py::a"}, Outcome.FAILED),
        (set(), set(), Outcome.FAILED),
    ],
)
def test_flaky_means_flaky_on_base_too(passed_again: set[str], flaky_on_base: set[str], outcome: Outcome) -> None:
    red = verdict.settle(TESTS, suite(a=TestStatus.PASSED), suite(a=TestStatus.FAILED))
    assert verdict.unclear(red) == ("t.py::a",)
    assert verdict.after_reruns(red, frozenset(passed_again), frozenset(flaky_on_base)).outcome is outcome


def test_skipped_and_vanished_tests_are_never_run_again() -> None:
    base = suite(a=TestStatus.PASSED, b=TestStatus.PASSED)
    assert verdict.unclear(verdict.settle(TESTS, base, suite(a=TestStatus.SKIPPED))) == ()


def test_no_test_is_no_pass() -> None:
    empty = verdict.settle(TESTS, suite(), suite())
    assert empty.outcome is Outcome.PASSED
    assert verdict.no_test_ran(empty, allowed=False).outcome is Outcome.NOT_CONFIGURED
    assert verdict.no_test_ran(empty, allowed=True).outcome is Outcome.PASSED
    skipped = verdict.settle(TESTS, suite(a=TestStatus.SKIPPED), suite(a=TestStatus.SKIPPED))
    assert verdict.no_test_ran(skipped, allowed=False).outcome is Outcome.NOT_CONFIGURED


def test_a_counter_check_that_dies_is_excused_only_where_base_dies_too() -> None:
    green = verdict.settle(TESTS, suite(a=TestStatus.PASSED), suite(a=TestStatus.PASSED))
    dead, alive = run(health=Health.BROKEN), run()
    assert verdict.counter_checked(green, [], alive, None).outcome is Outcome.PASSED
    assert verdict.counter_checked(green, [], dead, dead).outcome is Outcome.PASSED
    assert verdict.counter_checked(green, [], dead, alive).outcome is Outcome.FAILED
    assert verdict.counter_checked(green, [], dead, None).outcome is Outcome.FAILED
    assert verdict.counter_checked(green, ["t.py::a"], alive, None).outcome is Outcome.FAILED
    assert verdict.counter_checked(green, ["t.py::a"], dead, dead).outcome is Outcome.FAILED
