"""What is new against base."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_gates import baseline
from ci_gates.runs import Diagnostic, TestResult, TestStatus

P, F, S, X = TestStatus.PASSED, TestStatus.FAILED, TestStatus.SKIPPED, TestStatus.XFAILED


def diagnostic(line: int, source: str, path: str = "a.py", code: str = "E1", message: str = "m") -> Diagnostic:
    return Diagnostic(path, line, code, message, source)


def suite(**status: TestStatus) -> list[TestResult]:
    return [TestResult(f"t.py::{name}", one) for name, one in status.items()]


@pytest.mark.parametrize(
    ("base", "head", "new", "fixed"),
    [
        ([diagnostic(1, "x")], [diagnostic(9, "x")], [], 0),  # moved
        ([diagnostic(1, "x")], [diagnostic(1, "  x")], [], 0),  # indented
        ([diagnostic(1, "x")], [diagnostic(1, "x"), diagnostic(2, "x")], [2], 0),  # a second one
        ([diagnostic(1, "import os, sys")], [diagnostic(1, "import os, sys, re")], [], 0),  # the line was edited
        ([diagnostic(1, "import os, sys")], [diagnostic(1, "return nothing_like_it")], [1], 1),
        ([diagnostic(1, "x", code="E1")], [diagnostic(1, "x", code="E2")], [1], 1),
        ([diagnostic(1, "x", path="b.py")], [diagnostic(1, "x")], [], 0),  # the file was renamed
        ([diagnostic(1, "x", message="see line 4")], [diagnostic(1, "x", message="see line 9")], [], 0),
        ([], [diagnostic(1, "x")], [1], 0),
        ([diagnostic(1, "x")], [], [], 1),
    ],
)
def test_diagnostics(base: list[Diagnostic], head: list[Diagnostic], new: list[int], fixed: int) -> None:
    found = baseline.diagnostics(base, head, {"a.py": "b.py"} if base and base[0].path == "b.py" else {})
    assert [one.line for one in found.new] == new and len(found.fixed) == fixed
    assert found.already_red == len(head) - len(new)


some = st.lists(
    st.builds(
        diagnostic,
        st.integers(1, 9),
        st.sampled_from(["alpha()", "beta = 2", "gamma", ""]),
        path=st.sampled_from(["a.py", "b.py"]),
        code=st.sampled_from(["E1", "E2"]),
    ),
    max_size=8,
)


@pytest.mark.invariant("I5")
@given(some, some)
def test_more_of_a_kind_always_has_something_new(base: list[Diagnostic], head: list[Diagnostic]) -> None:
    found = baseline.diagnostics(base, head)
    assert len(found.new) + found.already_red == len(head)
    assert len(found.new) >= len(head) - len(base)
    assert len(head) - len(found.new) + len(found.fixed) == len(base)
    for kind in {(one.path, one.code) for one in head}:
        more = sum((one.path, one.code) == kind for one in head) - sum((one.path, one.code) == kind for one in base)
        assert sum((one.path, one.code) == kind for one in found.new) >= more


@given(some, st.randoms())
def test_order_does_not_matter(base: list[Diagnostic], dice: object) -> None:
    shuffled = list(base)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert not baseline.diagnostics(base, shuffled).red or not baseline.diagnostics(base, shuffled).new


@pytest.mark.parametrize(
    ("base", "head", "new", "fixed", "already"),
    [
        (suite(a=P), suite(a=P), [], 0, 0),
        (suite(a=P), suite(a=F), ["t.py::a"], 0, 0),
        (suite(a=F), suite(a=F), [], 0, 1),
        (suite(a=F), suite(a=P), [], 1, 0),
        (suite(a=P), suite(), ["t.py::a"], 0, 0),
        (suite(a=F), suite(), ["t.py::a"], 0, 0),  # a failing test that is gone is not fixed
        (suite(a=P), suite(a=S), ["t.py::a"], 0, 0),
        (suite(a=F), suite(a=S), ["t.py::a"], 0, 0),
        (suite(a=F), suite(a=X), ["t.py::a"], 0, 0),
        (suite(a=S), suite(a=S), [], 0, 0),
        (suite(), suite(b=F), ["t.py::b"], 0, 0),
        (suite(), suite(b=S), [], 0, 0),
        (
            [TestResult("t.py::a[0xdeadbeef1]", P), TestResult("t.py::a[2]", P)],
            [TestResult("t.py::a[0xfeedbeef2]", P)],
            ["t.py::a"],
            0,
            0,
        ),  # a case is gone
        ([TestResult("t.py::a[<x at 0xdead1>]", F)], [TestResult("t.py::a[<x at 0xbeef2>]", F)], [], 0, 1),
        ([TestResult("t.py::a[10:01]", F)], [TestResult("t.py::a[10:02]", F)], [], 0, 1),  # its case is named by time
        ([TestResult("t.py::a", P)], [TestResult("u.py::a", P)], [], 0, 0),  # moved
        ([TestResult("t.py::a", P)], [TestResult("t.py (collection)", F)], ["t.py (collection)"], 0, 0),
    ],
)
def test_tests(base: list[TestResult], head: list[TestResult], new: list[str], fixed: int, already: int) -> None:
    found = baseline.tests(base, head)
    assert ([one.code for one in found.new], len(found.fixed), found.already_red) == (new, fixed, already)


def test_a_renamed_file_keeps_its_tests() -> None:
    found = baseline.tests([TestResult("old.py::a", F)], [TestResult("new.py::a", F)], {"new.py": "old.py"})
    assert not found.new and found.already_red == 1


status = st.sampled_from([P, F, S, X])
suites = st.dictionaries(st.sampled_from("abcdef"), status, max_size=6)


@pytest.mark.invariant("I5")
@given(suites, suites)
def test_nothing_that_was_red_or_ran_slips_away(base: dict[str, TestStatus], head: dict[str, TestStatus]) -> None:
    found = baseline.tests(suite(**base), suite(**head))
    new = {one.code for one in found.new}
    for name, before in base.items():
        after = head.get(name)
        if after is None or (after is F and before is not F) or (after in (S, X) and before in (P, F)):
            assert f"t.py::{name}" in new
    for name, after in head.items():
        if after is F and base.get(name) is not F:
            assert f"t.py::{name}" in new
