"""Which gates a change must pass: those that base's ``.fleet.toml`` names, else what base's files show. Pure."""

from __future__ import annotations

import configparser
import hashlib
import posixpath
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.core import gateconfig
from fleet.core.codec import encode
from fleet.core.gateconfig import ConfiguredGate, RepoConfig
from fleet.core.gates import GateKind, GateSpec, Mode

RECIPE = "1"
POLICY = "policy"
TESTS = "tests"
CONFIG_FILES = (
    gateconfig.FILE,
    "pyproject.toml",
    "ruff.toml",
    ".ruff.toml",
    "mypy.ini",
    ".mypy.ini",
    "pyrightconfig.json",
    "pytest.ini",
    ".pytest.ini",
    "pytest.toml",
    ".pytest.toml",
    "tox.ini",
    "setup.cfg",
)
_PYTEST = ("python", "-m", "pytest", "-q")
MYPY_WORDS = ("--cache-dir=/dev/null", "--no-color-output", "--no-error-summary", "--show-error-codes", "--no-pretty")
_ERRORS_ONLY = "E9,F63,F7,F82"


@dataclass(frozen=True, slots=True)
class Plan:
    """``needed`` are the names without which there is no pass, policy first; ``missing`` are gates that cannot run."""

    gates: tuple[GateSpec, ...]
    needed: tuple[str, ...]
    source: str
    config: RepoConfig
    digest: str
    missing: tuple[GateSpec, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        every = (POLICY, *(gate.name for gate in (*self.gates, *self.missing)), *self.needed)
        return tuple(dict.fromkeys(every))

    @property
    def empty(self) -> bool:
        """No gate but policy could ever be red."""
        return not any(gate.mode is not Mode.ADVISORY for gate in self.gates)


def make_plan(
    files: tuple[str, ...],
    texts: Mapping[str, bytes],
    *,
    programs: frozenset[str],
    environment: str = "",
    allow_no_tests: bool = False,
) -> Plan:
    """``files``: every path of base; ``texts``: the contents of those CONFIG_FILES that base has.

    ``programs`` are the tools that the prepared environment offers by name, ``environment`` its digest.
    ``allow_no_tests`` is the ticket's; base's policy may allow it too. Raises GateConfigError.
    """
    config = gateconfig.parse(texts.get(gateconfig.FILE))
    missing: tuple[GateSpec, ...] = ()
    if config.gates:
        gates, source = tuple(_configured(gate) for gate in config.gates), gateconfig.FILE
    else:
        every = _detect(files, texts)
        gates = tuple(gate for gate in every if _program(gate) in programs)
        missing = tuple(gate for gate in every if gate not in gates)
        source = "detected"
    needed = [POLICY, *(gate.name for gate in gates if gate.mode is not Mode.ADVISORY)]
    if not (allow_no_tests or config.policy.allow_no_tests or any(gate.kind is GateKind.TESTS for gate in gates)):
        # Nobody runs this name, so its record says "not configured" and there is no pass.
        needed.append(TESTS)
    digest = hashlib.sha256(
        encode((RECIPE, texts.get(gateconfig.FILE, b"").hex(), gates, missing, tuple(needed), environment))
    ).hexdigest()
    return Plan(gates, tuple(needed), source, config, digest, missing)


def _configured(gate: ConfiguredGate) -> GateSpec:
    argv, parser = readable(gate.command, gate.kind)
    return GateSpec(gate.name, gate.kind, gate.mode, argv, parser, gate.seconds)


def readable(argv: tuple[str, ...], kind: GateKind) -> tuple[tuple[str, ...], str]:
    """The command with what makes its output exact, and the parser for it; ``exit`` where only the status speaks."""
    module = argv[2] if len(argv) > 2 and posixpath.basename(argv[0]).startswith("python") and argv[1] == "-m" else ""
    name = module or posixpath.basename(argv[0])
    if name == "ruff" and "check" in argv and not any(word.startswith("--output-format") for word in argv):
        return (*argv, "--output-format", "json", "--no-cache"), "ruff"
    if name == "mypy":
        return (*argv, *MYPY_WORDS), "mypy"
    if name == "pyright":
        return (*argv, "--outputjson"), "pyright"
    if pytest_word(argv) is not None and kind is GateKind.TESTS:
        return argv, "pytest"
    return argv, "exit"


def pytest_word(argv: tuple[str, ...]) -> int | None:
    """Where the word ``pytest`` stands that is the program or module itself, so that options can follow it."""
    for at, word in enumerate(argv):
        module = at > 0 and argv[at - 1] == "-m"
        if word == "pytest" and (module or at == 0):
            return at
        if at == 0 and posixpath.basename(word) in ("pytest", "py.test"):
            return at
    return None


def _program(gate: GateSpec) -> str:
    return gate.argv[2] if gate.argv[:2] == ("python", "-m") else gate.argv[0]


def _detect(files: tuple[str, ...], texts: Mapping[str, bytes]) -> tuple[GateSpec, ...]:
    if not any(path.endswith((".py", ".pyi")) for path in files):
        return ()
    project = toml(texts.get("pyproject.toml"))
    tools = table(project, "tool")
    gates = [*_lint(texts, tools), *_types(files, texts, tools)]
    if has_tests(files, texts, tools):
        gates.append(GateSpec(TESTS, GateKind.TESTS, Mode.NO_REGRESSION, _PYTEST, "pytest"))
    return tuple(gates)


def _lint(texts: Mapping[str, bytes], tools: Mapping[str, Any]) -> list[GateSpec]:
    check = ("ruff", "check", "--output-format", "json", "--no-cache", "--force-exclude", ".")
    if "ruff.toml" in texts or ".ruff.toml" in texts or "ruff" in tools:
        return [GateSpec("lint", GateKind.LINT, Mode.NO_REGRESSION, check, "ruff")]
    # Whether a file is Python at all and names what exists is no matter of taste, so that much is always asked.
    errors = (*check[:-2], "--isolated", "--target-version", "py314", "--select", _ERRORS_ONLY, ".")
    return [
        GateSpec("syntax", GateKind.LINT, Mode.NO_REGRESSION, errors, "ruff"),
        GateSpec("lint", GateKind.LINT, Mode.ADVISORY, check, "ruff"),
    ]


def _types(files: tuple[str, ...], texts: Mapping[str, bytes], tools: Mapping[str, Any]) -> list[GateSpec]:
    found = []
    setup = ini(texts.get("setup.cfg"))
    if "mypy.ini" in texts or ".mypy.ini" in texts or "mypy" in tools or "mypy" in setup:
        section = table(tools, "mypy")
        for source in ("mypy.ini", ".mypy.ini", "setup.cfg"):
            parsed = ini(texts.get(source))
            section = {**dict(parsed.items("mypy") if "mypy" in parsed else {}), **section}
        aimed = any(key in section for key in ("files", "packages", "modules"))
        argv = ("mypy", *MYPY_WORDS, *(() if aimed else mypy_targets(files)))
        found.append(GateSpec("types", GateKind.TYPES, Mode.NO_REGRESSION, argv, "mypy"))
    if "pyrightconfig.json" in texts or "pyright" in tools:
        name = "pyright" if found else "types"
        found.append(GateSpec(name, GateKind.TYPES, Mode.NO_REGRESSION, ("pyright", "--outputjson"), "pyright"))
    return found


def mypy_targets(files: tuple[str, ...]) -> tuple[str, ...]:
    """``src`` when there is one, else the top-level packages, else everything."""
    if any(path.startswith("src/") and path.endswith(".py") for path in files):
        return ("src",)
    packages = {path.partition("/")[0] for path in files if path.count("/") == 1 and path.endswith("/__init__.py")}
    wanted = sorted(name for name in packages if not is_test_path(f"{name}/x"))
    return tuple(wanted) or (".",)


def has_tests(files: tuple[str, ...], texts: Mapping[str, bytes], tools: Mapping[str, Any]) -> bool:
    configured = (
        "pytest" in tools
        or any(name in texts for name in ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"))
        or "pytest" in ini(texts.get("tox.ini"))
        or "tool:pytest" in ini(texts.get("setup.cfg"))
    )
    return configured or any(is_test_file(path) for path in files)


def is_test_file(path: str) -> bool:
    """A Python file that a test runner would look into."""
    name = posixpath.basename(path)
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py") or name == "tests.py")


def is_test_path(path: str) -> bool:
    """A test file, or anything below a folder of tests."""
    folders = path.split("/")[:-1]
    return is_test_file(path) or any(name in ("tests", "test", "testing") for name in folders)


def toml(data: bytes | None) -> dict[str, Any]:
    """Tolerant: what is not TOML is an empty table (the tools themselves will complain)."""
    try:
        return tomllib.loads((data or b"").decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        return {}


def table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table below ``key``; an empty one when there is none."""
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def ini(data: bytes | None) -> configparser.RawConfigParser:
    """Tolerant, like ``toml``."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string((data or b"").decode("utf-8", "replace"))
    except configparser.Error:
        return configparser.RawConfigParser()
    return parser
