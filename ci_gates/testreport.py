"""Reads what ``pytest_report`` wrote, and believes it only when its MACs and its canaries are right. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from ci_gates.canary import Canary
from ci_gates.plain import clean
from ci_gates.runs import Health, Report, TestResult, TestStatus

COLLECTION = "(collection)"
_RANK = {TestStatus.PASSED: 0, TestStatus.SKIPPED: 1, TestStatus.XFAILED: 2, TestStatus.FAILED: 3}
_LONGEST_ID = 1000
_OWN_ERRORS = {2: "pytest was interrupted", 3: "pytest had an internal error", 4: "pytest was called wrongly"}


@dataclass(slots=True)
class _Heard:
    """The report as it is being read; ``status`` is None until the last line was seen."""

    tests: dict[str, tuple[TestStatus, str]] = field(default_factory=dict)
    canaries: dict[str, bool] = field(default_factory=dict)
    started: bool = False
    collected: int = 0
    status: int | None = None


def read(data: bytes | None, secret: bytes, canary: Canary, exit_code: int, last_words: str = "") -> Report:
    """``data``: the report file's content, None when there is none. ``last_words`` of the run, for messages."""
    if not data:
        return _silent(exit_code, last_words)
    heard = _Heard()
    last = b""
    for line in data.splitlines():
        mac, _, body = line.partition(b" ")
        last = hmac.new(secret, last + body, hashlib.sha256).hexdigest().encode()
        if not hmac.compare_digest(mac, last) or heard.status is not None:
            return Report(Health.FORGED, "the test report was changed by something that ran with the tests")
        problem = _hear(heard, body, canary)
        if problem:
            return Report(Health.UNREADABLE, problem)
    return _conclude(heard, canary, exit_code, last_words)


def _silent(exit_code: int, last_words: str) -> Report:
    if exit_code in (0, 5):
        text = "the tests ended as if all were well, but wrote no report"
        return Report(Health.FORGED, text)
    return Report(Health.BROKEN, f"no test report (status {exit_code}): {last_words}".rstrip(": "))


def _hear(heard: _Heard, body: bytes, canary: Canary) -> str:
    try:
        record: dict[str, Any] = json.loads(body)
        match record["t"]:
            case "start":
                heard.started = True
            case "items":
                heard.collected = sum(canary.stem not in item for item in record["ids"])
            case "collect":
                _worst(heard, f"{_id(record)} {COLLECTION}".lstrip(), TestStatus.FAILED, clean(str(record["text"])))
            case "test":
                _test(heard, record, canary)
            case "end":
                heard.status = int(record["status"])
            case _:
                return "the test report has a line of an unknown kind"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "the test report has a line that cannot be read"
    return ""


def _test(heard: _Heard, record: dict[str, Any], canary: Canary) -> None:
    name = _id(record)
    failed = record["outcome"] == "failed"
    if canary.stem in name:
        short = name.rpartition("::")[2]
        heard.canaries[short] = heard.canaries.get(short, False) or failed
        return
    if failed:
        status = TestStatus.FAILED
    elif record["outcome"] == "skipped":
        status = TestStatus.XFAILED if record["xfail"] else TestStatus.SKIPPED
    elif record["outcome"] == "passed":
        status = TestStatus.PASSED
    else:
        return  # "rerun" of a plugin: the last try has a record of its own
    if record["when"] == "call" or status is not TestStatus.PASSED:
        _worst(heard, name, status, clean(str(record["text"])))


def _worst(heard: _Heard, name: str, status: TestStatus, text: str) -> None:
    known = heard.tests.get(name)
    if known is None or _RANK[status] > _RANK[known[0]]:
        heard.tests[name] = (status, text)


def _id(record: dict[str, Any]) -> str:
    return clean(str(record["id"])[:_LONGEST_ID])


def _conclude(heard: _Heard, canary: Canary, exit_code: int, last_words: str) -> Report:
    tests = tuple(TestResult(name, status, text) for name, (status, text) in heard.tests.items())
    if heard.status is None:
        if exit_code == 0:
            return Report(Health.FORGED, "the test run ended early with status 0")
        return Report(Health.BROKEN, f"the test run died after {len(tests)} tests (status {exit_code}): {last_words}")
    if heard.status in _OWN_ERRORS and not heard.canaries:
        first = next((test.text for test in tests if test.status is TestStatus.FAILED), last_words)
        said = first.strip().splitlines()[-1:] or [last_words]
        return Report(Health.BROKEN, f"{_OWN_ERRORS[heard.status]}: {said[0]}", tests=tests)
    green = sorted(name for name in canary.failing if not heard.canaries.get(name, False))
    if green:
        text = f"{len(green)} of {len(canary.failing)} planted tests that must fail did not: failures are being hidden"
        return Report(Health.FORGED, text)
    failures = any(test.status is TestStatus.FAILED for test in tests)
    if not failures and (exit_code != 0 or heard.status != 0) and exit_code != 5:
        # For example a coverage threshold: every test is green and the run is not.
        tests = (*tests, TestResult("(the whole run)", TestStatus.FAILED, f"status {exit_code}: {last_words}"))
    return Report(tests=tests, collected=heard.collected)
