"""What tools print. The parsers are given lies, noise and half a report, and never take them for green."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_gates import parsers
from ci_gates.parsers import Output, parse
from ci_gates.runs import Diagnostic, Health

RUFF = json.dumps(
    [
        {
            "code": "F401",
            "message": "`os` imported",
            "filename": "/workspace/a/b.py",
            "location": {"row": 3, "column": 1},
        },
        {"code": None, "name": "invalid-syntax", "message": "oops", "filename": "/workspace/c.py", "location": None},
    ]
).encode()
PYRIGHT = json.dumps(
    {
        "generalDiagnostics": [
            {
                "file": "/workspace/a.py",
                "severity": "error",
                "message": "bad",
                "rule": "r",
                "range": {"start": {"line": 4}},
            },
            {"file": "/workspace/a.py", "severity": "warning", "message": "meh"},
        ]
    }
).encode()
MYPY = b"""a.py:3: error: Incompatible types  [assignment]
a.py:3: note: See the manual
b.py:7:2: error: Missing [x]
"""


def report(parser: str, stdout: bytes, code: int, stderr: bytes = b"") -> tuple[Health, list[tuple[str, int, str]]]:
    found = parse(parser, Output(stdout, stderr, code, "/workspace"))
    return found.health, [(one.path, one.line, one.code) for one in found.diagnostics]


@pytest.mark.parametrize(
    ("parser", "stdout", "code", "wanted"),
    [
        ("ruff", RUFF, 1, [("a/b.py", 3, "F401"), ("c.py", 0, "invalid-syntax")]),
        ("ruff", b"[]", 0, []),
        ("pyright", PYRIGHT, 1, [("a.py", 5, "r")]),
        ("mypy", MYPY, 1, [("a.py", 3, "assignment"), ("b.py", 7, "x")]),
        (
            "mypy",
            b'{"file": "a.py", "line": 2, "severity": "error", "code": "x", "message": "m"}\n',
            1,
            [("a.py", 2, "x")],
        ),
        ("mypy", b"", 0, []),
        ("exit", b"", 0, []),
        ("exit", b"the last line\n", 3, [("", 0, "exit 3")]),
    ],
)
def test_what_is_read(parser: str, stdout: bytes, code: int, wanted: list[tuple[str, int, str]]) -> None:
    assert report(parser, stdout, code) == (Health.CLEAN, wanted)


@pytest.mark.invariant("I5")
@pytest.mark.parametrize(
    ("parser", "stdout", "code", "health"),
    [
        ("ruff", b"[]", 1, Health.UNREADABLE),  # red, and no finding: something was left out
        ("ruff", RUFF, 0, Health.UNREADABLE),
        ("ruff", b"", 0, Health.UNREADABLE),
        ("ruff", b"{}", 0, Health.UNREADABLE),
        ("ruff", b"[1]", 1, Health.UNREADABLE),
        ("ruff", b"[" * 100_000, 1, Health.UNREADABLE),
        ("ruff", b"error: no such option", 2, Health.BROKEN),
        ("pyright", b"", 0, Health.UNREADABLE),
        ("pyright", b"null", 1, Health.UNREADABLE),
        ("pyright", b"fatal", 3, Health.BROKEN),
        ("mypy", MYPY, 0, Health.UNREADABLE),
        ("mypy", b"", 1, Health.BROKEN),
        ("mypy", b"mypy: cannot find module\n", 2, Health.BROKEN),
        ("unheard-of", b"", 0, Health.UNREADABLE),
    ],
)
def test_what_cannot_be_is_not_green(parser: str, stdout: bytes, code: int, health: Health) -> None:
    found, diagnostics = report(parser, stdout, code)
    assert found is health and (not diagnostics or health is not Health.CLEAN)


@given(st.sampled_from(["ruff", "pyright", "mypy", "exit"]), st.binary(max_size=300), st.integers(-9, 300))
def test_any_bytes_are_survived(parser: str, data: bytes, code: int) -> None:
    found = parse(parser, Output(data, data, code, "/workspace"))
    # Green is only what the tool itself calls green.
    if found.health is Health.CLEAN and not found.diagnostics:
        assert code == 0


@pytest.mark.parametrize(
    ("said", "code", "tests", "collected"),
    [
        (b"Ran 12 tests in 0.1s\n\nOK\n", 0, 1, 12),
        (b"Ran 0 tests in 0.0s\n\nOK\n", 0, 0, 0),
        (b"Ran 3 tests in 0.0s\n\nOK (skipped=3)\n", 0, 0, 3),
        (b"all good", 0, 1, 1),
        (b"bad", 1, 1, 1),
    ],
)
def test_commands_without_a_report(said: bytes, code: int, tests: int, collected: int) -> None:
    found = parsers.tests_by_exit(Output(b"", said, code, "/workspace"))
    assert found.tests is not None and (len(found.tests), found.collected) == (tests, collected)


def test_bytes_that_are_no_text_can_be_written_down() -> None:
    raw = b"caf\xe9.py:1: error: \x1b[31mred\xff  [x]\n"
    (one,) = parse("mypy", Output(raw, b"", 1, "/workspace")).diagnostics
    assert one == Diagnostic("caf\\xe9.py", 1, "x", "\\x1b[31mred\\xff")
    one.path.encode()
