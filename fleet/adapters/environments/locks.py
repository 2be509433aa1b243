"""uv.lock and poetry.lock: the exact wheels that this platform needs, with their hashes."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from fleet.adapters.environments.manifest import Collector, Pin, address_problem, applies, inside, quoted
from fleet.adapters.environments.pyproject import Table, listed, table
from fleet.adapters.environments.requirements_txt import Found

_LOCAL = ("editable", "virtual", "directory")


@dataclass(frozen=True, slots=True)
class Edge:
    """One package asks for another; ``version`` only where the lock holds several."""

    name: str
    extras: frozenset[str] = frozenset()
    version: str | None = None


@dataclass(slots=True)
class Walk:
    """What is wanted so far: each package with the extras asked of it."""

    packages: Mapping[str, list[Table]]
    into: Collector
    pins: list[Pin] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    _seen: set[tuple[str, str, frozenset[str]]] = field(default_factory=set)

    def take(self, edge: Edge) -> Table | None:
        """The package of ``edge`` when its dependencies still have to be followed."""
        package = self._choose(edge)
        if package is None:
            return None
        key = (canonicalize_name(edge.name), str(package.get("version", "")), edge.extras)
        if key in self._seen:
            return None
        self._seen.add(key)
        return package

    def pin(self, package: Table, files: Iterable[tuple[str, str]], lock: str) -> None:
        """Pins ``package`` to those of its wheels (file name, hash) that fit this platform."""
        name, version = str(package["name"]), str(package["version"])
        hashes = tuple(sorted({value for filename, value in files if value and fits(filename)}))
        if not hashes:
            self.into.problem(f"{name} {version} of {lock} has no wheel for this Python; nothing is built from source.")
        elif not any(pin.name == name and pin.version == version for pin in self.pins):
            self.pins.append(Pin(name, version, hashes))

    def _choose(self, edge: Edge) -> Table | None:
        found = self.packages.get(canonicalize_name(edge.name), [])
        if edge.version is not None:
            found = [package for package in found if package.get("version") == edge.version]
        if len(found) > 1:
            fitting = [package for package in found if _resolves(package)]
            found = fitting or found
        return found[0] if found else None


def _resolves(package: Table) -> bool:
    markers = listed(package, "resolution-markers")
    return not markers or any(applies(str(marker)) for marker in markers)


@functools.cache
def _tags() -> frozenset[Tag]:
    return frozenset(sys_tags())


def fits(filename: str) -> bool:
    """Whether this is a wheel that the Python of the fleet can install."""
    try:
        return bool(parse_wheel_filename(filename)[3] & _tags())
    except InvalidWheelFilename:
        return False


def _by_name(data: Table) -> dict[str, list[Table]]:
    found: dict[str, list[Table]] = {}
    for package in listed(data, "package"):
        found.setdefault(canonicalize_name(str(package["name"])), []).append(package)
    return found


# --- uv ---------------------------------------------------------------------------------------------------------


def uv(text: str, pyproject: Table, into: Collector, found: Found) -> tuple[list[Pin], set[str]]:
    """Pins, and the folders of the workspace's own packages. Raises ValueError when it is no lock of uv's."""
    data = tomllib.loads(text)
    if data.get("version") != 1:
        raise ValueError(f"its version is {data.get('version')}, not 1")
    into.source("uv.lock")
    walk = Walk(_by_name(data), into)
    found.groups.update(str(name) for name in listed(table(pyproject, "tool", "uv"), "default-groups"))
    todo = [
        Edge(str(package["name"]))
        for package in listed(data, "package")
        if any(kind in table(package, "source") for kind in _LOCAL)
    ]
    while todo:
        edge = todo.pop()
        package = walk.take(edge)
        if package is not None:
            todo += _uv_package(package, edge.extras, found, walk)
    return walk.pins, walk.members


def _uv_package(package: Table, extras: frozenset[str], found: Found, walk: Walk) -> Iterator[Edge]:
    source = table(package, "source")
    local = next((str(source[kind]) for kind in _LOCAL if kind in source), None)
    if local is not None:
        folder = inside(local)
        if folder is None:
            walk.into.problem(f"uv.lock names {quoted(local)}, which lies outside the repository; it was left out.")
            return
        walk.members.add(folder)
        extras = extras | {extra for extra in table(package, "optional-dependencies") if found.wants_extra(extra)}
        for group, entries in table(package, "dev-dependencies").items():
            if found.wants_group(group):
                yield from _uv_edges(entries)
    elif "registry" in source:
        files = ((_file_name(wheel), str(wheel.get("hash", ""))) for wheel in listed(package, "wheels"))
        walk.pin(package, files, "uv.lock")
    else:
        walk.into.problem(address_problem("uv.lock", str(package["name"])))
    yield from _uv_edges(listed(package, "dependencies"))
    for extra in extras:
        yield from _uv_edges(listed(table(package, "optional-dependencies"), extra))


def _uv_edges(entries: Iterable[Any]) -> Iterator[Edge]:
    for entry in entries:
        if applies(entry.get("marker")):
            yield Edge(str(entry["name"]), frozenset(entry.get("extra", ())), entry.get("version"))


def _file_name(wheel: Table) -> str:
    return str(wheel.get("filename") or wheel.get("url") or wheel.get("path") or "").split("#")[0].rpartition("/")[2]


# --- Poetry -----------------------------------------------------------------------------------------------------


def poetry(text: str, pyproject: Table, wished: Iterable[Requirement], into: Collector) -> list[Pin]:
    """Pins of what ``wished`` (the project's own requirements) leads to. Raises ValueError when it is no such lock."""
    data = tomllib.loads(text)
    if "metadata" not in data:
        raise ValueError("it has no metadata")
    into.source("poetry.lock")
    walk = Walk(_by_name(data), into)
    old_files = table(data, "metadata", "files")
    todo = [
        Edge(item.name, frozenset(item.extras))
        for item in wished
        if item.marker is None or item.marker.evaluate({"extra": ""})
    ]
    for edge in todo:
        if canonicalize_name(edge.name) not in walk.packages:
            into.problem(f"poetry.lock has no {edge.name}, which pyproject.toml asks for; the lock is out of date.")
    while todo:
        edge = todo.pop()
        package = walk.take(edge)
        if package is not None:
            todo += _poetry_package(package, edge.extras, old_files, walk)
    return walk.pins


def _poetry_package(package: Table, extras: frozenset[str], old_files: Table, walk: Walk) -> Iterator[Edge]:
    kind = table(package, "source").get("type", "legacy")
    if kind != "legacy":
        walk.into.problem(address_problem("poetry.lock", str(package["name"])))
    else:
        files = listed(package, "files") or listed(old_files, str(package["name"]))
        walk.pin(package, ((str(item["file"]), str(item["hash"])) for item in files), "poetry.lock")
    wanted_extras = _poetry_extra_names(package, extras)
    for name, entries in table(package, "dependencies").items():
        for entry in entries if isinstance(entries, list) else [entries]:
            content = entry if isinstance(entry, Mapping) else {}
            if content.get("optional") and canonicalize_name(name) not in wanted_extras:
                continue
            if any(applies(_without_extra(content.get("markers")), extra) for extra in (extras or {""})):
                yield Edge(name, frozenset(content.get("extras", ())))


def _without_extra(marker: object) -> str | None:
    """Poetry repeats the extra in the marker of an optional dependency; whether it is wanted is decided by name."""
    return None if not isinstance(marker, str) or "extra ==" in marker else marker


def _poetry_extra_names(package: Table, extras: frozenset[str]) -> set[str]:
    found: set[str] = set()
    for extra, entries in table(package, "extras").items():
        if extra in extras:
            for entry in entries:
                try:
                    found.add(canonicalize_name(Requirement(str(entry)).name))
                except InvalidRequirement:
                    found.add(canonicalize_name(str(entry).split(" ")[0].split("[")[0]))
    return found
