"""What tools print, as reports. Pure and suspicious: nothing here raises, whatever the bytes are.

Output that is not the tool's is never taken for "no complaints": it becomes a BROKEN or UNREADABLE report.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ci_gates.plain import clean
from ci_gates.runs import Diagnostic, Health, Report, TestResult, TestStatus

_MYPY_LINE = re.compile(
    r"(?P<path>.+?):(?P<line>\d+)(?::\d+)?(?::\d+:\d+)?: (?P<kind>error|warning|note): (?P<message>.*)"
)
_MYPY_CODE = re.compile(r"\s+\[(?P<code>[a-z][a-z0-9-]*)\]$")
_RAN = re.compile(rb"^Ran (\d+) tests? in ", re.MULTILINE)
_UNITTEST_SKIPPED = re.compile(rb"^(?:OK|FAILED) \(.*?skipped=(\d+)", re.MULTILINE)
_MOST = 100_000
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Output:
    """A finished command as a parser sees it. ``root`` is the checkout's path inside the sandbox."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    root: str


def parse(parser: str, output: Output) -> Report:
    """The report of everything but pytest, whose own report file is read by ``ci_gates.testreport``."""
    known: dict[str, Callable[[Output], Report]] = {"ruff": ruff, "mypy": mypy, "pyright": pyright, "exit": by_exit}
    if parser not in known:
        return Report(Health.UNREADABLE, f"no parser is called {parser[:40]!r}")
    try:
        return known[parser](output)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        return Report(Health.UNREADABLE, f"the report is not what {parser} writes ({type(error).__name__})")


def ruff(output: Output) -> Report:
    """``ruff check --output-format json``: 0 no finding, 1 findings, else ruff's own error."""
    if output.exit_code not in (0, 1):
        return Report(Health.BROKEN, _last_words(output))
    rows = json.loads(output.stdout)
    if not isinstance(rows, list):
        return Report(Health.UNREADABLE, "the report is not a list of findings")
    found = tuple(
        Diagnostic(
            _relative(_text(row["filename"]), output.root),
            _number(row["location"]["row"]) if row.get("location") else 0,
            _text(row.get("code") or row.get("name") or "syntax-error"),
            _text(row["message"]),
        )
        for row in rows[:_MOST]
    )
    return _counted(found, len(rows), output.exit_code)


def pyright(output: Output) -> Report:
    """``pyright --outputjson``: 0 nothing, 1 errors, else pyright's own error. Warnings are not counted."""
    if output.exit_code not in (0, 1):
        return Report(Health.BROKEN, _last_words(output))
    rows = json.loads(output.stdout)["generalDiagnostics"]
    errors = [row for row in rows if row.get("severity") == "error"]
    found = tuple(
        Diagnostic(
            _relative(_text(row.get("file", "")), output.root),
            _number((row.get("range") or {}).get("start", {}).get("line", -1)) + 1,
            _text(row.get("rule") or "error"),
            _text(row["message"]),
        )
        for row in errors[:_MOST]
    )
    return _counted(found, len(errors), output.exit_code)


def mypy(output: Output) -> Report:
    """mypy's lines, or its JSON lines. 0 nothing, 1 errors; 2 is a blocking error, which still has lines."""
    found = tuple(_mypy_lines(output))
    if output.exit_code not in (0, 1) or (output.exit_code == 1 and not found):
        said = found[0].message if found else _last_words(output)
        return Report(Health.BROKEN, said, found)
    if output.exit_code == 0 and found:
        return Report(Health.UNREADABLE, "mypy reports errors but ended with status 0")
    return _counted(found, len(found), output.exit_code)


def _mypy_lines(output: Output) -> Iterator[Diagnostic]:
    for raw in output.stdout.decode("utf-8", "surrogateescape").splitlines()[:_MOST]:
        if raw.startswith("{"):
            row = json.loads(raw)
            if row.get("severity") == "error":
                path = _relative(_text(row["file"]), output.root)
                yield Diagnostic(path, _number(row["line"]), _text(row.get("code") or "misc"), _text(row["message"]))
            continue
        line = _MYPY_LINE.fullmatch(raw)
        if line and line["kind"] == "error":
            code = _MYPY_CODE.search(line["message"])
            message = line["message"][: code.start()] if code else line["message"]
            path = _relative(clean(line["path"]), output.root)
            yield Diagnostic(path, int(line["line"][:9]), code["code"] if code else "misc", _text(message))


def by_exit(output: Output) -> Report:
    """Only the status speaks: a command that is not green has one complaint, its status."""
    if output.exit_code == 0:
        return Report()
    return Report(diagnostics=(Diagnostic("", 0, f"exit {output.exit_code}", _last_words(output)),))


def tests_by_exit(output: Output) -> Report:
    """A test command that writes no report we know: unittest's own count, else one test, the command itself."""
    said = output.stdout + b"\n" + output.stderr
    ran = _RAN.findall(said)
    total = sum(int(number[:9]) for number in ran) if ran else 1
    skipped = sum(int(number[:9]) for number in _UNITTEST_SKIPPED.findall(said))
    status = TestStatus.PASSED if output.exit_code == 0 else TestStatus.FAILED
    if total <= skipped and status is TestStatus.PASSED:
        return Report(tests=(), collected=total)
    text = "" if status is TestStatus.PASSED else _last_words(output)
    return Report(tests=(TestResult("the command", status, text),), collected=total)


def _counted(found: tuple[Diagnostic, ...], rows: int, exit_code: int) -> Report:
    """A status and a list that contradict each other mean that one of the two was made up."""
    if rows > _MOST:
        return Report(Health.UNREADABLE, f"more than {_MOST} findings")
    if bool(found) != (exit_code != 0):
        return Report(Health.UNREADABLE, f"{len(found)} findings, but the status is {exit_code}")
    return Report(diagnostics=found)


def _relative(path: str, root: str) -> str:
    path = path.removeprefix("file://")
    if root and path.startswith(root.rstrip("/") + "/"):
        path = path[len(root.rstrip("/")) + 1 :]
    return posixpath.normpath(path) if path else ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return clean(value[:_LONGEST])


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**31:
        raise TypeError("not a line number")
    return value


def _last_words(output: Output) -> str:
    """The last line that says something; of stderr when it has any."""
    for data in (output.stderr, output.stdout):
        lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return lines[-1][:500]
    return f"ended with status {output.exit_code} and said nothing"
