"""What is new on H against base: per complaint and per test. Pure.

A complaint is known by path, code, message and the text of its line, counted as a multiset: a line that moved is not
new, a second one of the same kind is. A line that was edited and still has its old complaint is not new either.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ci_gates.runs import Diagnostic, TestResult, TestStatus
from ci_gates.testreport import COLLECTION
from fleet.core.gates import Finding, TestCounts

_NUMBER = re.compile(r"\d+")
_LINE_REFERENCE = re.compile(r"\bline \d+")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")
_ALIKE = 0.6
_MOST_PAIRS = 300
_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class Comparison:
    """``already_red`` counts what is red on H and was red on base."""

    new: tuple[Finding, ...] = ()
    fixed: tuple[Finding, ...] = ()
    already_red: int = 0
    tests: TestCounts | None = None

    @property
    def red(self) -> bool:
        return bool(self.new or self.already_red)


def diagnostics(
    base: Sequence[Diagnostic], head: Sequence[Diagnostic], renames: Mapping[str, str] | None = None
) -> Comparison:
    """``renames``: new path → old path, so that a moved file keeps its baseline."""
    renamed = renames or {}
    waiting: dict[tuple[str, ...], list[Diagnostic]] = defaultdict(list)
    for old in base:
        waiting[_fingerprint(old, {})].append(old)
    fresh: list[Diagnostic] = []
    for item in sorted(head, key=lambda one: (one.path, one.line)):
        known = waiting.get(_fingerprint(item, renamed))
        if known:
            known.pop(0)
        else:
            fresh.append(item)
    gone = [item for left in waiting.values() for item in left]
    new = _edited_lines(fresh, gone, renamed)
    return Comparison(
        tuple(_finding(item) for item in new), tuple(_finding(item) for item in gone), len(head) - len(new)
    )


def _fingerprint(item: Diagnostic, renames: Mapping[str, str]) -> tuple[str, ...]:
    message = _LINE_REFERENCE.sub("line …", item.message)
    return renames.get(item.path, item.path), item.code, message, " ".join(item.source.split())


def _edited_lines(fresh: list[Diagnostic], gone: list[Diagnostic], renames: Mapping[str, str]) -> list[Diagnostic]:
    """Pairs each fresh complaint with one that is gone when it is the same complaint about an edited line."""
    by_kind: dict[tuple[str, ...], list[Diagnostic]] = defaultdict(list)
    for old in gone[:_MOST_PAIRS]:
        by_kind[_kind(old, {})].append(old)
    new = []
    for item in fresh:
        candidates = by_kind.get(_kind(item, renames), []) if item.source else []
        alike = [(_likeness(item.source, old.source), at) for at, old in enumerate(candidates) if old.source]
        best = max(alike, default=(0.0, -1))
        if best[0] < _ALIKE:
            new.append(item)
        else:
            gone.remove(candidates.pop(best[1]))
    return new


def _kind(item: Diagnostic, renames: Mapping[str, str]) -> tuple[str, ...]:
    return renames.get(item.path, item.path), item.code, _NUMBER.sub("", item.message)


def _likeness(a: str, b: str) -> float:
    return SequenceMatcher(None, a[:500], b[:500], autojunk=False).ratio()


def _finding(item: Diagnostic) -> Finding:
    return Finding(item.path, item.line, item.code, item.message[:_MESSAGE])


def tests(
    base: Sequence[TestResult], head: Sequence[TestResult], renames: Mapping[str, str] | None = None
) -> Comparison:
    """New are: failures that base has not, tests that base ran and H leaves out, and tests that are gone."""
    before = {stable(test.id): test for test in base}
    after = {_back(stable(test.id), renames or {}): test for test in head}
    spare = _failing_elsewhere(before, after)
    new, fixed, already = [], [], 0
    for name, test in after.items():
        old = before.get(name)
        if test.status is TestStatus.FAILED:
            if old is not None and old.status is TestStatus.FAILED:
                already += 1
            elif old is None and spare[function(name)] > 0:
                spare[function(name)] -= 1
                already += 1
            else:
                new.append(_failure(test))
        elif test.status in (TestStatus.SKIPPED, TestStatus.XFAILED) and old is not None:
            if old.status in (TestStatus.PASSED, TestStatus.FAILED):
                new.append(_note(test.id, f"{old.status.value} on base and is now {test.status.value}"))
        elif old is not None and old.status is TestStatus.FAILED:
            fixed.append(_note(test.id, "failed on base"))
    new += [_note(name, "ran on base and is gone") for name in vanished(before.values(), after)]
    return Comparison(tuple(new), tuple(fixed), already, count(head))


def _failing_elsewhere(before: Mapping[str, TestResult], after: Mapping[str, TestResult]) -> Counter[str]:
    """Per function the failures of base whose exact case H does not have: the names of its cases are not stable."""
    gone = (name for name, test in before.items() if test.status is TestStatus.FAILED and name not in after)
    return Counter(function(name) for name in gone)


def vanished(base: Iterable[TestResult], head: Mapping[str, TestResult]) -> list[str]:
    """Test functions of base with fewer cases on H; those of a file that H cannot even load are not named again."""
    unloadable = {name.removesuffix(f" {COLLECTION}") for name in head if name.endswith(COLLECTION)}
    had = Counter(function(stable(test.id)) for test in base if not test.id.endswith(COLLECTION))
    has = Counter(function(name) for name in head)
    fresh = Counter(name.partition("::")[2] for name in has if name not in had)
    lost = []
    for name, number in had.items():
        short = name.partition("::")[2]
        if has[name] >= number or name.partition("::")[0] in unloadable:
            continue
        if has[name] == 0 and fresh[short] > 0:
            fresh[short] -= 1  # it stands in another file now
            continue
        lost.append(name)
    return lost


def count(results: Sequence[TestResult]) -> TestCounts:
    by_status = Counter(test.status for test in results)
    passed = by_status[TestStatus.PASSED] + by_status[TestStatus.XFAILED]
    return TestCounts(len(results), passed, by_status[TestStatus.FAILED], by_status[TestStatus.SKIPPED])


def stable(name: str) -> str:
    """A test's id without memory addresses."""
    return _ADDRESS.sub("0x…", name)


def function(name: str) -> str:
    """A test's id without its case: ``tests/test_a.py::test_b[1]`` → ``tests/test_a.py::test_b``."""
    return name.partition("[")[0]


def _back(name: str, renames: Mapping[str, str]) -> str:
    path, colons, rest = name.partition("::")
    return f"{renames.get(path, path)}{colons}{rest}"


def _failure(test: TestResult) -> Finding:
    lines = [line.strip() for line in test.text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E ")]
    said = (errors or lines or ["failed"])[0 if errors else -1]
    return _note(test.id, said.removeprefix("E").strip())


def _note(name: str, message: str) -> Finding:
    return Finding(name.partition("::")[0].removesuffix(f" {COLLECTION}"), 0, name, message[:_MESSAGE])
