"""``.fleet.toml``: what it may say, and that each wrong line is named with what to write instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.gateconfig import GateConfigError, parse
from fleet.core.gates import GateKind, Mode

WHOLE = b"""version = 1
[gates.tests]
command = "pytest -q tests"
kind = "tests"
mode = "required"
timeout = "10m"
[gates.docs]
command = ["sh", "-c", "make docs | tee log"]
[policy]
protected = ["docs/legal/**"]
max_files = 20
max_bytes = "64kB"
allow_no_tests = true
[dependencies]
extras = ["test"]
"""


def test_everything_it_may_say() -> None:
    config = parse(WHOLE)
    tests, docs = config.gates
    assert (tests.name, tests.kind, tests.mode, tests.seconds) == ("tests", GateKind.TESTS, Mode.REQUIRED, 600.0)
    assert tests.command == ("pytest", "-q", "tests")
    assert (docs.kind, docs.mode, docs.seconds) == (GateKind.COMMAND, Mode.NO_REGRESSION, 900.0)
    assert docs.command[2] == "make docs | tee log"
    assert (config.policy.max_files, config.policy.max_bytes, config.policy.allow_no_tests) == (20, 64_000, True)
    assert config.policy.protected == ("docs/legal/**",) and config.dependencies.extras == ("test",)


def test_none_is_the_defaults() -> None:
    assert not parse(None).present and parse(b"").present
    assert parse(None).policy == parse(b"").policy


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"gates = 3\n", 1, "must be a table"),
        (b"version = 2\n", 1, "version = 1"),
        (b"\n[gate.tests]\ncommand = 'x'\n", 2, 'Did you mean "gates"?'),
        (b"[gates.tests]\ncomand = 'x'\n", 2, 'Did you mean "command"?'),
        (b"[gates.tests]\nkind = 'tests'\n", 1, "has no command"),
        (b"[gates.tests]\ncommand = 'a && b'\n", 2, "No shell reads"),
        (b'[gates.tests]\ncommand = "a \'b"\n', 2, "quotes"),
        (b"[gates.tests]\ncommand = 'x'\nkind = 'test'\n", 3, "one of lint, types, tests, command"),
        (b"[gates.tests]\ncommand = 'x'\nkind = 'policy'\n", 3, "one of"),
        (b"[gates.tests]\ncommand = 'x'\nmode = 'strict'\n", 3, "required"),
        (b"[gates.tests]\ncommand = 'x'\ntimeout = 'soon'\n", 3, '"10m"'),
        (b"[gates.tests]\ncommand = 'x'\ntimeout = '9h'\n", 3, "out of range"),
        (b"[gates.policy]\ncommand = 'x'\n", 1, "cannot be the name"),
        (b"[gates.Tests]\ncommand = 'x'\n", 1, "lower-case"),
        (b"[policy]\nmax_files = 0\n", 2, "from 1 up"),
        (b"[policy]\nmax_files = true\n", 2, "from 1 up"),
        (b"[policy]\nmax_bytes = 'big'\n", 2, '"2MiB"'),
        (b"[policy]\nallow_no_tests = 'yes'\n", 2, "true or false"),
        (b"[policy]\nprotected = 'docs'\n", 2, "list of globs"),
        (b"[policy]\n\n\nmax_file = 3\n", 4, 'Did you mean "max_files"?'),
        (b"[policy\n", 1, "not TOML"),
        (b"a = 1\nb = \xff\n", 2, "UTF-8"),
    ],
)
def test_a_wrong_line_is_named(text: bytes, line: int, words: str) -> None:
    with pytest.raises(GateConfigError) as caught:
        parse(text)
    assert caught.value.line == line and words in str(caught.value)
    assert str(caught.value).startswith(f".fleet.toml, line {line}: ")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_it_holds_the_answer_is_a_config_or_a_line(data: bytes) -> None:
    try:
        config = parse(data)
    except GateConfigError as error:
        assert error.line >= 1 and error.exit_code == 2
    else:
        assert config.present
