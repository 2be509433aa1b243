"""``.fleet.toml`` of a repository, read from the base commit: its gates, its policy, its dependencies.

Pure. Every error names the line and says what to write instead.
"""

from __future__ import annotations

import difflib
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fleet.core.errors import UsageError
from fleet.core.gates import GateKind, Mode

FILE = ".fleet.toml"
MIB = 1024 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_RESERVED = frozenset({"policy"})
_SHELL = re.compile(r"&&|\|\||[|;<>`]|\$\(|\$\{")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|kB|MB|GB)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": MIB, "GiB": 1024 * MIB, "kB": 1000, "MB": 1000**2, "GB": 1000**3}
_LONGEST = 4 * 3600.0
T = TypeVar("T")


class GateConfigError(UsageError):
    """``.fleet.toml`` cannot be used; ``line`` is where, counted from 1."""

    def __init__(self, line: int, message: str, hint: str = "") -> None:
        super().__init__(f"{FILE}, line {line}: {message}", hint)
        self.line = line


@dataclass(frozen=True, slots=True)
class ConfiguredGate:
    """One ``[gates.NAME]``. ``seconds`` is the limit of one run."""

    name: str
    kind: GateKind
    mode: Mode
    command: tuple[str, ...]
    seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """``[policy]``. ``protected`` are globs that only a person may change; ``max_bytes`` counts added content."""

    protected: tuple[str, ...] = ()
    max_files: int = 500
    max_bytes: int = 2 * MIB
    allow_no_tests: bool = False


@dataclass(frozen=True, slots=True)
class DependencyConfig:
    """``[dependencies]``: which manifests and extras make the environment, where detection would guess wrong."""

    requirements: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepoConfig:
    """All of ``.fleet.toml``. ``present`` is False when base has none."""

    gates: tuple[ConfiguredGate, ...] = ()
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    dependencies: DependencyConfig = field(default_factory=DependencyConfig)
    present: bool = False


def parse(data: bytes | None) -> RepoConfig:
    """None (no such file) gives the defaults. Raises GateConfigError."""
    if data is None:
        return RepoConfig()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GateConfigError(data[: error.start].count(b"\n") + 1, "This is not UTF-8.", "Save it as UTF-8.") from None
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise GateConfigError(line, f"This is not TOML: {error}.", "Mend the line.") from None
    lines = _Lines(text)
    root = _Table(lines, (), table)
    # [limits] and [agents] are read by fleet.core.settings and fleet.core.routes, which know what the operator allows.
    root.only("version", "gates", "policy", "dependencies", "limits", "agents")
    _version(root)
    gates = root.table("gates")
    return RepoConfig(
        tuple(_gate(gates.table(name), name) for name in gates.values),
        _policy(root.table("policy")),
        _dependencies(root.table("dependencies")),
        present=True,
    )


def duration(text: object) -> float | None:
    """Seconds of ``90``, ``"90s"``, ``"10m"`` or ``"1h"``; None when it is none of these."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    return float(found[1]) * _SECONDS[found[2]] if found else None


def size(text: object) -> int | None:
    """Bytes of ``2048``, ``"64kB"`` or ``"2MiB"``; None when it is none of these."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    return int(float(found[1]) * _BYTES[found[2]]) if found else None


class _Lines:
    """Finds the line of a table or key, for messages."""

    def __init__(self, text: str) -> None:
        self._at: dict[tuple[str, ...], int] = {}
        here: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
            key = re.match(r"\s*([\w\"'.-]+)\s*=", line)
            if header:
                here = _dotted(header[1])
                self._at.setdefault(here, number)
            elif key:
                self._at.setdefault((*here, *_dotted(key[1])), number)

    def of(self, path: tuple[str, ...]) -> int:
        """The nearest known line: the key's own, else its table's, else 1."""
        while path:
            if path in self._at:
                return self._at[path]
            longer = [line for known, line in self._at.items() if known[: len(path)] == path]
            if longer:
                return min(longer)
            path = path[:-1]
        return 1


def _dotted(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


class _Table:
    """One table with its place, so that each wrong value is refused with its line."""

    def __init__(self, lines: _Lines, path: tuple[str, ...], values: Mapping[str, Any]) -> None:
        self._lines = lines
        self._path = path
        self.values = values

    def error(self, key: str, message: str, hint: str = "") -> GateConfigError:
        return GateConfigError(self._lines.of((*self._path, key) if key else self._path), message, hint)

    def only(self, *known: str) -> None:
        where = f"[{'.'.join(self._path)}]" if self._path else "the top level"
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1, 0.5)
                hint = f'Did you mean "{near[0]}"?' if near else f"Known are: {', '.join(known)}."
                raise self.error(key, f'"{key}" is not a key of {where}.', hint)

    def table(self, key: str) -> _Table:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            name = ".".join((*self._path, key))
            raise self.error(key, f'"{key}" must be a table.', f"Write it as [{name}] with keys below.")
        return _Table(self._lines, (*self._path, key), value)

    def get(self, key: str, convert: Callable[[object], T | None], default: T, wanted: str) -> T:
        if key not in self.values:
            return default
        value = convert(self.values[key])
        if value is None:
            raise self.error(key, f'"{key}" cannot be {_shown(self.values[key])}.', f"Write {wanted}.")
        return value


def _version(root: _Table) -> None:
    if root.values.get("version", 1) != 1 or isinstance(root.values.get("version"), bool):
        raise root.error("version", "This version of the fleet reads version 1 only.", "Write: version = 1")


def _gate(table: _Table, name: str) -> ConfiguredGate:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        hint = "Use a lower-case letter, then letters, digits, - and _ (at most 40), and not the name policy."
        raise table.error("", f'"{name[:60]}" cannot be the name of a gate.', hint)
    table.only("command", "kind", "mode", "timeout")
    kinds = {kind.value: kind for kind in GateKind if kind is not GateKind.POLICY}
    modes = {mode.value: mode for mode in Mode}
    seconds = table.get("timeout", duration, 900.0, 'a number of seconds, or for example "10m"')
    if not 1 <= seconds <= _LONGEST:
        raise table.error("timeout", f"A timeout of {seconds:g} s is out of range.", 'Write between "1s" and "4h".')
    return ConfiguredGate(
        name,
        table.get("kind", _one_of(kinds), GateKind.COMMAND, f"one of {', '.join(kinds)}"),
        table.get("mode", _one_of(modes), Mode.NO_REGRESSION, f"one of {', '.join(modes)}"),
        _command(table, name),
        seconds,
    )


def _command(table: _Table, name: str) -> tuple[str, ...]:
    value = table.values.get("command")
    if value is None:
        raise table.error("", f"The gate {name} has no command.", 'Add for example: command = "pytest -q"')
    if isinstance(value, list) and value and all(isinstance(word, str) and "\0" not in word for word in value):
        return tuple(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise table.error("command", "A command is words.", 'Write: command = "pytest -q", or a list of words.')
    found = _SHELL.search(value)
    if found:
        hint = 'Write: command = ["sh", "-c", "…"], or make one gate of each command.'
        raise table.error("command", f"No shell reads the command, so {found[0]} would be a plain word.", hint)
    try:
        words = tuple(shlex.split(value))
    except ValueError as error:
        raise table.error("command", f"The command cannot be split into words: {error}.", "Mend the quotes.") from None
    return words


def _policy(table: _Table) -> PolicyConfig:
    table.only("protected", "max_files", "max_bytes", "allow_no_tests")
    plain = PolicyConfig()
    return PolicyConfig(
        table.get("protected", _strings, plain.protected, 'a list of globs, for example ["docs/legal/**"]'),
        table.get("max_files", _positive, plain.max_files, "a whole number from 1 up"),
        table.get("max_bytes", _positive_size, plain.max_bytes, 'a number of bytes, or for example "2MiB"'),
        table.get("allow_no_tests", _flag, plain.allow_no_tests, "true or false"),
    )


def _dependencies(table: _Table) -> DependencyConfig:
    table.only("requirements", "extras", "groups")
    return DependencyConfig(
        table.get("requirements", _strings, (), 'a list of files, for example ["requirements/test.txt"]'),
        table.get("extras", _strings, (), 'a list of names, for example ["test"]'),
        table.get("groups", _strings, (), 'a list of names, for example ["dev"]'),
    )


def _one_of(values: Mapping[str, T]) -> Callable[[object], T | None]:
    return lambda value: values.get(value) if isinstance(value, str) else None


def _strings(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(word, str) and word for word in value):
        return tuple(value)
    return None


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _positive_size(value: object) -> int | None:
    found = size(value)
    return found if found is not None and found > 0 else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
