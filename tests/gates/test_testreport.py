"""The test report is believed only when MACs and canaries are right."""

from __future__ import annotations

import ast
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_gates import testreport
from ci_gates.canary import Canary, make_canary
from ci_gates.runs import Health, TestStatus

KEY = b"k" * 64
CANARY = Canary("test_0123456789", "", frozenset({"test_aaaa", "test_bbbb"}))


def case(name: str, outcome: str = "passed", when: str = "call", **more: Any) -> dict[str, Any]:
    return {"t": "test", "id": name, "when": when, "outcome": outcome, "xfail": False, "text": "", **more}


def canaries(outcome: str = "failed") -> list[dict[str, Any]]:
    return [case(f"/x/{CANARY.stem}.py::{name}", outcome) for name in sorted(CANARY.failing)]


def signed(*records: dict[str, Any], key: bytes = KEY) -> bytes:
    out, last = b"", b""
    for record in records:
        line = json.dumps(record).encode()
        last = hmac.new(key, last + line, hashlib.sha256).hexdigest().encode()
        out += last + b" " + line + b"\n"
    return out


END = {"t": "end", "status": 0}
GOOD = signed({"t": "start"}, canaries()[0], case("a.py::x"), canaries()[1], END)


def read(data: bytes | None, code: int = 0) -> Health:
    return testreport.read(data, KEY, CANARY, code).health


@pytest.mark.invariant("I12")
def test_a_good_report_is_read() -> None:
    found = testreport.read(GOOD, KEY, CANARY, 0)
    assert found.health is Health.CLEAN and found.tests is not None
    assert [(one.id, one.status) for one in found.tests] == [("a.py::x", TestStatus.PASSED)]


@pytest.mark.invariant("I12")
@pytest.mark.parametrize(
    ("data", "code", "health"),
    [
        (None, 0, Health.FORGED),
        (b"", 0, Health.FORGED),
        (None, 1, Health.BROKEN),
        (None, -9, Health.BROKEN),
        (signed({"t": "start"}, END), 0, Health.FORGED),  # no canary sang
        (signed({"t": "start"}, *canaries("passed"), END), 0, Health.FORGED),
        (signed({"t": "start"}, *canaries()[:1], END), 0, Health.FORGED),
        (signed({"t": "start"}, *canaries(), case("a.py::x")), 0, Health.FORGED),  # no end, and yet status 0
        (signed({"t": "start"}, *canaries(), case("a.py::x")), 1, Health.BROKEN),
        (signed({"t": "start"}, *canaries(), END, END), 0, Health.FORGED),
        (signed({"t": "start"}, *canaries(), END, key=b"other"), 0, Health.FORGED),
        (signed({"t": "start"}, {"t": "end", "status": 4}), 4, Health.BROKEN),
        (signed({"t": "start"}, {"t": "news"}, *canaries(), END), 0, Health.UNREADABLE),
        (signed({"t": "start"}, {"t": "test"}, *canaries(), END), 0, Health.UNREADABLE),
    ],
)
def test_every_other_one_is_not(data: bytes | None, code: int, health: Health) -> None:
    assert read(data, code) is health


@pytest.mark.invariant("I12")
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_changed_byte_is_noticed(at: int, change: int) -> None:
    changed = GOOD[:at] + bytes([GOOD[at] ^ change]) + GOOD[at + 1 :]
    assert read(changed) is not Health.CLEAN or changed.splitlines() == GOOD.splitlines()


@given(st.sets(st.integers(0, 4), min_size=1))
def test_no_line_can_be_left_out(gone: set[int]) -> None:
    lines = GOOD.splitlines(keepends=True)
    assert read(b"".join(line for at, line in enumerate(lines) if at not in gone)) is not Health.CLEAN


@given(st.binary(max_size=200), st.integers(-20, 200))
def test_any_bytes_are_survived(data: bytes, code: int) -> None:
    assert read(data, code) is not Health.CLEAN


def test_how_phases_add_up() -> None:
    records = [
        case("a::setup", "failed", "setup"),
        case("a::skip", "skipped", "setup"),
        case("a::xfail", "skipped", "call", xfail=True),
        case("a::teardown"),
        case("a::teardown", "failed", "teardown"),
        case("a::again", "rerun"),
        case("a::again"),
        {"t": "collect", "id": "b.py", "text": "E ImportError"},
    ]
    found = testreport.read(signed({"t": "start"}, *canaries(), *records, {"t": "end", "status": 1}), KEY, CANARY, 1)
    assert found.tests is not None
    assert {one.id: one.status.value for one in found.tests} == {
        "a::setup": "failed",
        "a::skip": "skipped",
        "a::xfail": "xfailed",
        "a::teardown": "failed",
        "a::again": "passed",
        "b.py (collection)": "failed",
    }


def test_a_red_run_of_green_tests_is_red() -> None:
    found = testreport.read(GOOD, KEY, CANARY, 1, "Required coverage not reached")
    assert found.tests is not None and found.tests[-1].status is TestStatus.FAILED
    assert "coverage" in found.tests[-1].text


@given(st.text("0123456789abcdef", min_size=160, max_size=220))
def test_canaries_are_python_and_fail_where_they_say(entropy: str) -> None:
    canary = make_canary(entropy)
    names: dict[str, Any] = {}
    exec(compile(ast.parse(canary.source), "canary", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert len(canary.failing) >= 1 and canary.failing <= set(tests)
    red = set()
    for name in tests:
        try:
            names[name]()
        except Exception:
            red.add(name)
    assert red == canary.failing
    assert tests[0] in canary.failing and tests[-1] in canary.failing
