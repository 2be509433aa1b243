"""setup.cfg, setup.py and tox.ini, read and never run."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterable

from fleet.adapters.environments import requirements_txt
from fleet.adapters.environments.manifest import Collector, Files, Rank, inside, quoted
from fleet.adapters.environments.requirements_txt import Found, lines

_CONDITION = re.compile(r"^[\w{},!.*-]+:\s*\S")


def parse_ini(text: str) -> configparser.RawConfigParser:
    """Raises ValueError when it is no such file."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return parser


def setup_cfg_name(text: str) -> str | None:
    return parse_ini(text).get("metadata", "name", fallback="").strip() or None


def setup_cfg(files: Files, text: str, into: Collector, found: Found) -> None:
    """install_requires, and the extras that tests need."""
    parser = parse_ini(text)
    into.source("setup.cfg")
    value = parser.get("options", "install_requires", fallback="")
    if value.strip().startswith("file:"):
        for name in value.strip().removeprefix("file:").split(","):
            path = inside(name.strip())
            if path is not None:
                requirements_txt.read(files, path, Rank.RUNTIME, into, found)
    else:
        into.add_all(lines(value), Rank.RUNTIME, "setup.cfg")
    into.add_all(lines(parser.get("options", "tests_require", fallback="")), Rank.TEST, "setup.cfg")
    if parser.has_section("options.extras_require"):
        for extra, wanted in parser.items("options.extras_require"):
            if found.wants_extra(extra):
                into.add_all(lines(wanted), Rank.DEV if extra == "dev" else Rank.TEST, f"setup.cfg, extra {extra}")


def setup_py_name(text: str) -> str | None:
    """The literal name that setup.py gives, if it gives one."""
    value = _literal(_arguments(text).get("name"), {})
    return value if isinstance(value, str) else None


def setup_py(text: str, into: Collector, found: Found) -> None:
    """Literal arguments only: a computed one becomes a problem, because nothing of the repository is run to read it."""
    arguments = _arguments(text)
    known = _constants(text)
    into.source("setup.py")
    for keyword, rank in (("install_requires", Rank.RUNTIME), ("tests_require", Rank.TEST)):
        if keyword in arguments:
            _strings(_literal(arguments[keyword], known), keyword, rank, into)
    extras = _literal(arguments.get("extras_require"), known)
    if isinstance(extras, dict):
        for extra, wanted in extras.items():
            if isinstance(extra, str) and (found.wants_extra(extra)):
                _strings(wanted, f"extra {extra}", Rank.DEV if extra == "dev" else Rank.TEST, into)


def _strings(value: object, keyword: str, rank: Rank, into: Collector) -> None:
    if isinstance(value, str):
        into.add_all(lines(value), rank, "setup.py")
    elif isinstance(value, (list, tuple)):
        into.add_all(value, rank, "setup.py")
    else:
        into.problem(f"setup.py computes its {keyword}; it is not run to find out, so they were left out.")


def _arguments(text: str) -> dict[str, ast.expr]:
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name == "setup" and node.keywords:
                return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    return {}


def _constants(text: str) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in _parse(text).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, MemoryError) as error:
        raise ValueError("it is not Python 3") from error


def _literal(node: ast.expr | None, known: dict[str, ast.expr]) -> object:
    if isinstance(node, ast.Name):
        node = known.get(node.id)
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def tox(files: Files, text: str, into: Collector, found: Found) -> None:
    """deps of [testenv], best effort: lines with conditions or substitutions are passed over."""
    parser = parse_ini(text)
    if not parser.has_section("testenv"):
        return
    into.source("tox.ini")
    found.extras.update(
        word for word in re.split(r"[\s,]+", parser.get("testenv", "extras", fallback="")) if word.isidentifier()
    )
    tox_deps(files, lines(parser.get("testenv", "deps", fallback="")), into, found)


def tox_deps(files: Files, deps: Iterable[object], into: Collector, found: Found) -> None:
    """The entries of a tox environment's ``deps``."""
    for entry in deps:
        line = str(entry).strip().replace("{toxinidir}/", "").replace("{tox_root}/", "")
        if line.startswith(("-r", "-c")):
            path = inside(line[2:].strip())
            if line.startswith("-r") and path is not None and path in files.names():
                requirements_txt.read(files, path, Rank.FILE, into, found)
            elif line.startswith("-r"):
                into.problem(f"tox.ini includes {quoted(line)}, which is no file of the repository; it was left out.")
        elif line and "{" not in line and not _CONDITION.match(line) and not line.startswith((".", "/", "-")):
            into.add(line, Rank.TEST, "tox.ini")
