"""From the files of a commit to its manifest. Reads, and never runs, what the repository holds."""

from __future__ import annotations

import re

from packaging.requirements import Requirement

from fleet.adapters.environments import legacy, locks, pyproject, requirements_txt
from fleet.adapters.environments.manifest import Collector, Files, Manifest, Pin, Project, Rank
from fleet.adapters.environments.requirements_txt import Found
from fleet.core import gateconfig

# What a repository's pytest settings need to start at all, and the package that brings it.
_PLUGINS = (
    (re.compile(r"--cov\b"), "pytest-cov"),
    (re.compile(r"(?<![\w-])-n\s?=?(\d+|auto|logical)\b|--numprocesses"), "pytest-xdist"),
    (re.compile(r"--timeout\b|^\s*timeout\s*=", re.MULTILINE), "pytest-timeout"),
    (re.compile(r"^\s*asyncio_mode\s*=", re.MULTILINE), "pytest-asyncio"),
    (re.compile(r"--benchmark\b|--benchmark-"), "pytest-benchmark"),
    (re.compile(r"--randomly-|-p\s+randomly"), "pytest-randomly"),
)


def detect(files: Files) -> Manifest:
    """The manifest of a commit. A lock wins over everything that only gives ranges."""
    names = files.names()
    into, found = Collector(), Found()
    data: pyproject.Table = {}
    text = files.read("pyproject.toml") if "pyproject.toml" in names else None
    if text is not None:
        try:
            data = pyproject.parse(text)
        except ValueError as error:
            into.problem(f"pyproject.toml is not TOML ({error}); it was left out.")
    into.project = pyproject.name_of(data) or _legacy_name(files, into)
    asked = _configured(files, into, found)
    pins, members = ([], set()) if asked else _locked(files, data, into, found)
    if not pins:
        _ranges(files, data, into, found, asked)
        pins = found.pins
    _plugins(files, data, into, pins)
    return Manifest(
        wishes=tuple(dict.fromkeys(into.wishes)),
        pins=tuple(sorted(dict.fromkeys(pins), key=lambda pin: (pin.name.lower(), pin.version))),
        project=_project(data, names, into.project, members),
        sources=tuple(into.sources),
        problems=tuple(into.problems),
    )


def _configured(files: Files, into: Collector, found: Found) -> tuple[str, ...]:
    """Notes the extras and groups of .fleet.toml; returns its requirements files, which then replace every guess."""
    text = files.read(gateconfig.FILE) if gateconfig.FILE in files.names() else None
    try:
        wanted = gateconfig.parse(None if text is None else text.encode()).dependencies
    except gateconfig.GateConfigError as error:
        into.problem(str(error))
        return ()
    found.extras.update(wanted.extras)
    found.groups.update(wanted.groups)
    return wanted.requirements


def _legacy_name(files: Files, into: Collector) -> str | None:
    for path, read in (("setup.cfg", legacy.setup_cfg_name), ("setup.py", legacy.setup_py_name)):
        text = files.read(path) if path in files.names() else None
        if text is not None:
            try:
                name = read(text)
            except ValueError:
                continue  # told once, when the file is read for its requirements
            if name:
                return name
    return None


def _locked(files: Files, data: pyproject.Table, into: Collector, found: Found) -> tuple[list[Pin], set[str]]:
    pins: list[Pin] = []
    members: set[str] = set()
    if "uv.lock" in files.names():

        def read_uv() -> None:
            taken, folders = locks.uv(files.read("uv.lock") or "", data, into, found)
            pins.extend(taken)
            members.update(folders)

        into.guarded("uv.lock", read_uv)
    elif "poetry.lock" in files.names():

        def read_poetry() -> None:
            own = Collector(project=into.project)
            pyproject.read(files, data, own, Found(extras=found.extras, groups=found.groups))
            wished = [Requirement(wish.text) for wish in own.wishes]
            pins.extend(locks.poetry(files.read("poetry.lock") or "", data, wished, into))

        into.guarded("poetry.lock", read_poetry)
    return pins, members


def _ranges(files: Files, data: pyproject.Table, into: Collector, found: Found, asked: tuple[str, ...]) -> None:
    names = files.names()
    # First, since `-e .[test]` and tox's extras say which extras count.
    for path in asked or requirements_txt.candidates(names):
        if path not in into.sources:
            rank = Rank.RUNTIME if asked else requirements_txt.rank_of(path)
            requirements_txt.read(files, path, rank, into, found)
    for path, read in (("tox.ini", legacy.tox), ("setup.cfg", legacy.setup_cfg)):
        text = files.read(path) if path in names else None
        if text is not None:
            into.guarded(path, lambda read=read, text=text: read(files, text, into, found))  # type: ignore[misc]
    into.guarded("pyproject.toml", lambda: pyproject.read(files, data, into, found))
    text = files.read("setup.py") if "setup.py" in names else None
    if text is not None:
        into.guarded("setup.py", lambda: legacy.setup_py(text, into, found))


def _plugins(files: Files, data: pyproject.Table, into: Collector, pins: list[Pin]) -> None:
    options = pyproject.table(data, "tool", "pytest", "ini_options")
    lines = [f"{key} = {value}" for key, value in options.items()]
    for path, section in (("pytest.ini", "pytest"), ("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")):
        text = files.read(path) if path in files.names() else None
        try:
            parser = legacy.parse_ini(text or "")
        except ValueError:
            continue
        if parser.has_section(section):
            lines += [f"{key} = {value}" for key, value in parser.items(section)]
    known = {wish.name.lower() for wish in into.wishes} | {pin.name.lower() for pin in pins}
    joined = "\n".join(lines)
    for pattern, package in _PLUGINS:
        if pattern.search(joined) and package not in known:
            into.add(package, Rank.TEST, "the repository's pytest settings")


def _project(data: pyproject.Table, names: frozenset[str], name: str | None, members: set[str]) -> Project | None:
    packaged = "build-system" in data or "project" in data or "setup.py" in names or "setup.cfg" in names
    if not packaged or (pyproject.table(data, "tool", "uv").get("package") is False):
        roots = tuple(dict.fromkeys([*pyproject.roots_of(data, names)]))
        return Project(name=None, backend="", build_requires=(), roots=roots)
    project = pyproject.project_of(data, names)
    extra = [_root_of(folder, names) for folder in sorted(members - {"."})]
    roots = tuple(dict.fromkeys([*project.roots[:-1], *extra, "."]))
    return Project(name or project.name, project.backend, project.build_requires, roots)


def _root_of(folder: str, names: frozenset[str]) -> str:
    return f"{folder}/src" if any(path.startswith(f"{folder}/src/") for path in names) else folder
