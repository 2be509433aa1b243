"""The plan: base's own gates, else what base's files show."""

from __future__ import annotations

import pytest

from ci_gates.plan import Plan, has_tests, is_test_file, is_test_path, make_plan, mypy_targets, pytest_word, readable
from fleet.core.gates import GateKind, Mode

ALL = frozenset({"ruff", "mypy", "pyright", "pytest"})


def plan(files: dict[str, bytes], programs: frozenset[str] = ALL, allow_no_tests: bool = False) -> Plan:
    return make_plan(tuple(files), files, programs=programs, allow_no_tests=allow_no_tests)


def names(found: Plan) -> dict[str, Mode]:
    return {gate.name: gate.mode for gate in found.gates}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"README": b""}, {}),
        ({"a.py": b""}, {"syntax": Mode.NO_REGRESSION, "lint": Mode.ADVISORY}),
        ({"a.py": b"", "ruff.toml": b""}, {"lint": Mode.NO_REGRESSION}),
        ({"a.py": b"", "pyproject.toml": b"[tool.ruff]\n"}, {"lint": Mode.NO_REGRESSION}),
        (
            {"a.py": b"", "ruff.toml": b"", "mypy.ini": b"[mypy]\n", "test_a.py": b""},
            {"lint": Mode.NO_REGRESSION, "types": Mode.NO_REGRESSION, "tests": Mode.NO_REGRESSION},
        ),
        (
            {"a.py": b"", "ruff.toml": b"", "setup.cfg": b"[mypy]\n", "pyrightconfig.json": b"{}"},
            {"lint": Mode.NO_REGRESSION, "types": Mode.NO_REGRESSION, "pyright": Mode.NO_REGRESSION},
        ),
        ({"a.py": b"", "pyproject.toml": b"not toml ["}, {"syntax": Mode.NO_REGRESSION, "lint": Mode.ADVISORY}),
    ],
)
def test_what_is_detected(files: dict[str, bytes], wanted: dict[str, Mode]) -> None:
    assert names(plan(files)) == wanted


@pytest.mark.invariant("I5")
def test_needed_is_policy_and_all_that_is_not_advice() -> None:
    found = plan({"a.py": b"", "test_a.py": b""})
    assert found.needed == ("policy", "syntax", "tests")
    assert plan({"a.py": b""}).needed == ("policy", "syntax", "tests")  # nobody runs it, so there is no pass
    assert plan({"a.py": b""}, allow_no_tests=True).needed == ("policy", "syntax")
    assert plan({"README": b""}).empty and not found.empty


def test_a_missing_tool_is_told_and_never_needed_except_the_tests() -> None:
    found = plan({"a.py": b"", "ruff.toml": b"", "mypy.ini": b"[mypy]\n", "test_a.py": b""}, frozenset({"ruff"}))
    assert [gate.name for gate in found.missing] == ["types", "tests"]
    assert found.needed == ("policy", "lint", "tests") and set(found.names) == {"policy", "lint", "types", "tests"}


def test_fleet_toml_replaces_detection() -> None:
    files = {".fleet.toml": b'[gates.all]\ncommand = "make check"\n', "a.py": b"", "test_a.py": b"", "ruff.toml": b""}
    found = plan(files)
    assert [gate.name for gate in found.gates] == ["all"] and found.source == ".fleet.toml"
    policy_only = plan({".fleet.toml": b"[policy]\nmax_files = 3\n", "a.py": b"", "test_a.py": b""})
    assert policy_only.source == "detected" and policy_only.config.policy.max_files == 3


def test_the_digest_is_of_all_that_decides() -> None:
    files = {"a.py": b"", "test_a.py": b""}
    same = make_plan(tuple(files), files, programs=ALL, environment="e")
    assert same.digest == make_plan(tuple(files), files, programs=ALL, environment="e").digest
    others = [
        make_plan(tuple(files), files, programs=ALL, environment="f"),
        make_plan(tuple(files), files, programs=frozenset({"ruff"}), environment="e"),
        make_plan((*files, "ruff.toml"), {**files, "ruff.toml": b""}, programs=ALL, environment="e"),
        make_plan(tuple(files), {**files, ".fleet.toml": b"version = 1\n"}, programs=ALL, environment="e"),
    ]
    assert len({same.digest, *(one.digest for one in others)}) == 5


@pytest.mark.parametrize(
    ("argv", "kind", "parser"),
    [
        (("ruff", "check", "."), GateKind.LINT, "ruff"),
        (("python", "-m", "ruff", "check"), GateKind.LINT, "ruff"),
        (("ruff", "format", "--check", "."), GateKind.LINT, "exit"),
        (("mypy", "src"), GateKind.TYPES, "mypy"),
        (("pyright",), GateKind.TYPES, "pyright"),
        (("pytest", "-q"), GateKind.TESTS, "pytest"),
        (("python3", "-m", "pytest"), GateKind.TESTS, "pytest"),
        (("coverage", "run", "-m", "pytest"), GateKind.TESTS, "pytest"),
        (("pytest", "-q"), GateKind.COMMAND, "exit"),
        (("make", "pytest"), GateKind.TESTS, "exit"),
        (("tox",), GateKind.TESTS, "exit"),
    ],
)
def test_which_commands_are_understood(argv: tuple[str, ...], kind: GateKind, parser: str) -> None:
    words, found = readable(argv, kind)
    assert found == parser and words[: len(argv)] == argv


def test_where_pytest_stands() -> None:
    assert pytest_word(("python", "-m", "pytest", "tests")) == 2
    assert pytest_word(("/usr/bin/pytest",)) == 0
    assert pytest_word(("echo", "pytest")) is None


def test_what_is_a_test() -> None:
    assert is_test_file("a/test_b.py") and is_test_file("b_test.py") and not is_test_file("testing.py")
    assert is_test_path("tests/data/x.json") and is_test_path("pkg/test/util.py") and not is_test_path("src/contest.py")
    assert has_tests(("a.py",), {"pytest.ini": b""}, {}) and not has_tests(("a.py",), {}, {})
    assert mypy_targets(("src/a/b.py",)) == ("src",)
    assert mypy_targets(("pkg/__init__.py", "tests/__init__.py", "setup.py")) == ("pkg",)
    assert mypy_targets(("a.py",)) == (".",)
