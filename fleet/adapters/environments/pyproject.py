"""pyproject.toml: PEP 621, dependency groups, Poetry, PDM, Hatch and uv tables, and the build system."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fleet.adapters.environments import legacy, requirements_txt
from fleet.adapters.environments.manifest import Collector, Files, Project, Rank, inside
from fleet.adapters.environments.requirements_txt import Found, is_test_group

Table = Mapping[str, Any]
_POETRY_OPERATOR = re.compile(r"^\s*([\^~])?\s*([0-9][\w.]*)\s*$")


def parse(text: str) -> Table:
    """Raises ValueError when it is not TOML."""
    return tomllib.loads(text)


def table(of: object, *path: str) -> Table:
    """The table at ``path``, or an empty one."""
    for name in path:
        of = of.get(name) if isinstance(of, Mapping) else None
    return of if isinstance(of, Mapping) else {}


def listed(of: object, name: str) -> list[Any]:
    """The list called ``name``, or an empty one."""
    value = of.get(name) if isinstance(of, Mapping) else None
    return value if isinstance(value, list) else []


def name_of(data: Table) -> str | None:
    """What the project calls itself."""
    for name in (table(data, "project").get("name"), table(data, "tool", "poetry").get("name")):
        if isinstance(name, str):
            return name
    return None


def project_of(data: Table, names: frozenset[str]) -> Project:
    """How its metadata is built, and where its modules lie."""
    system = table(data, "build-system")
    requires = tuple(item for item in listed(system, "requires") if isinstance(item, str)) or ("setuptools", "wheel")
    backend = system.get("build-backend")
    return Project(
        name=name_of(data),
        backend=backend if isinstance(backend, str) else "setuptools.build_meta:__legacy__",
        build_requires=requires,
        roots=roots_of(data, names),
    )


def roots_of(data: Table, names: frozenset[str]) -> tuple[str, ...]:
    """Folders from which the project's modules are imported; the repository's own folder comes last."""
    found: list[str] = []
    setuptools = table(data, "tool", "setuptools")
    found += [str(item) for item in listed(table(setuptools, "packages", "find"), "where")]
    found += [str(item) for item in [table(setuptools, "package-dir").get("")] if item]
    poetry = [item for item in listed(table(data, "tool", "poetry"), "packages") if isinstance(item, Mapping)]
    found += [str(item["from"]) for item in poetry if "from" in item]

    if any(name.startswith("src/") and name.endswith(".py") for name in names):
        found.append("src")
    safe = [path for path in (inside(item) for item in found) if path is not None and path != "."]
    return tuple(dict.fromkeys([*safe, "."]))


def read(files: Files, data: Table, into: Collector, found: Found) -> None:
    """Wishes of every table that is known."""
    before = len(into.wishes)
    _pep621(files, data, into, found)
    for group in table(data, "dependency-groups"):
        if found.wants_group(group):
            rank = Rank.DEV if group == "dev" else Rank.TEST
            into.add_all(group_members(data, group), rank, f"pyproject.toml, group {group}")
    _poetry(data, into, found)
    tool = table(data, "tool")
    into.add_all(listed(table(tool, "uv"), "dev-dependencies"), Rank.DEV, "pyproject.toml, tool.uv")
    for group, wanted in table(tool, "pdm", "dev-dependencies").items():
        if is_test_group(group) and isinstance(wanted, list):
            into.add_all(wanted, Rank.TEST, "pyproject.toml, tool.pdm")
    for env in ("default", "test", "hatch-test"):
        for key in ("dependencies", "extra-dependencies"):
            entries = [entry for entry in listed(table(tool, "hatch", "envs", env), key) if "{" not in str(entry)]
            into.add_all(entries, Rank.TEST, "pyproject.toml, tool.hatch")
    legacy.tox_deps(files, listed(table(tool, "tox", "env_run_base"), "deps"), into, found)
    if len(into.wishes) > before:
        into.source("pyproject.toml")


def _pep621(files: Files, data: Table, into: Collector, found: Found) -> None:
    project = table(data, "project")
    into.add_all(listed(project, "dependencies"), Rank.RUNTIME, "pyproject.toml")
    extras = table(project, "optional-dependencies")
    for extra in extras:
        if found.wants_extra(extra):
            rank = Rank.DEV if extra == "dev" else Rank.TEST
            into.add_all(_extra_members(extras, extra, into.project, ()), rank, f"pyproject.toml, extra {extra}")
    dynamic = table(data, "tool", "setuptools", "dynamic")
    named = table(dynamic, "dependencies").get("file", [])
    for name in [named] if isinstance(named, str) else named:
        path = inside(str(name))
        if path is not None:
            requirements_txt.read(files, path, Rank.RUNTIME, into, found)


def _extra_members(extras: Table, extra: str, own: str | None, seen: tuple[str, ...]) -> Iterator[object]:
    """The entries of an extra; ``project[other]`` stands for the entries of that extra."""
    for entry in listed(extras, extra):
        itself = _own_extras(entry, own)
        if itself is None:
            yield entry
        else:
            for other in itself - {extra, *seen}:
                yield from _extra_members(extras, other, own, (*seen, extra))


def _own_extras(entry: object, own: str | None) -> set[str] | None:
    try:
        requirement = Requirement(str(entry))
    except InvalidRequirement:
        return None
    same = own is not None and canonicalize_name(requirement.name) == canonicalize_name(own)
    return set(requirement.extras) if same else None


def group_members(data: Table, group: str, seen: tuple[str, ...] = ()) -> Iterator[object]:
    """The entries of a dependency group (PEP 735) with the groups that it includes."""
    for entry in listed(table(data, "dependency-groups"), group):
        if isinstance(entry, Mapping):
            other = str(entry.get("include-group", ""))
            if other not in (*seen, group):
                yield from group_members(data, other, (*seen, group))
        else:
            yield entry


def _poetry(data: Table, into: Collector, found: Found) -> None:
    poetry = table(data, "tool", "poetry")
    tables = [(table(poetry, "dependencies"), Rank.RUNTIME), (table(poetry, "dev-dependencies"), Rank.DEV)]
    for group, content in table(poetry, "group").items():
        if found.wants_group(group):
            tables.append((table(content, "dependencies"), Rank.DEV if group == "dev" else Rank.TEST))
    for content, rank in tables:
        for name, wanted in content.items():
            if name.lower() != "python":
                for entry in wanted if isinstance(wanted, list) else [wanted]:
                    _poetry_entry(name, entry, rank, into)


def _poetry_entry(name: str, entry: object, rank: Rank, into: Collector) -> None:
    if isinstance(entry, str):
        into.add(f"{name}{poetry_versions(entry)}", rank, "pyproject.toml, tool.poetry")
    elif isinstance(entry, Mapping) and not {"git", "path", "url", "file"} & set(entry):
        if entry.get("optional"):
            return
        extras = f"[{','.join(map(str, entry.get('extras', [])))}]" if entry.get("extras") else ""
        marker = f" ; {entry['markers']}" if entry.get("markers") else ""
        into.add(
            f"{name}{extras}{poetry_versions(str(entry.get('version', '*')))}{marker}",
            rank,
            "pyproject.toml, tool.poetry",
        )
    else:
        into.problem(
            f"pyproject.toml takes {name} from an address; only packages of the index are fetched, so it was left out."
        )


def poetry_versions(text: str) -> str:
    """Poetry's ``^1.2``, ``~1.2``, ``1.2``, ``1.*`` and plain comparisons as PEP 440 specifiers."""
    parts = [part.strip() for part in text.rsplit("||", maxsplit=1)[-1].split(",") if part.strip()]
    return ",".join(filter(None, (_poetry_part(part) for part in parts)))


def _poetry_part(part: str) -> str:
    if part == "*":
        return ""
    if part.endswith(".*") and part[0].isdigit():
        return f"=={part}"
    match = _POETRY_OPERATOR.match(part)
    if match is None:
        return part.replace(" ", "")
    operator, version = match.groups()
    if operator is None:
        return f"=={version}"
    return f">={version},<{_above(version, caret=operator == '^')}"


def _above(version: str, *, caret: bool) -> str:
    numbers = [int(word) for word in re.findall(r"\d+", version.split("-", maxsplit=1)[0])[:3]] or [0]
    if caret:
        at = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
    else:
        at = min(1, len(numbers) - 1)
    return ".".join(map(str, [*numbers[:at], numbers[at] + 1]))
