"""Gives a prepared environment the fleet's own locked pytest, when the repository names none.

Copied from the tools' environment file by file after its records: no index is asked, and the files are those whose
hashes the fleet's lock names.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fleet.adapters.environments.kit import Kit
from fleet.adapters.environments.manifest import Wish

_SHEBANG_LIMIT = 120
_SCRIPT = "import sys\nfrom {module} import {attr}\nif __name__ == '__main__':\n    sys.exit({attr}())\n"


def distributions(site: Path) -> dict[str, Distribution]:
    """Installed packages of one site-packages folder by canonical name. Nothing is imported."""
    found: dict[str, Distribution] = {}
    for folder in sorted(site.glob("*.dist-info")):
        distribution: Distribution = PathDistribution(folder)
        name = distribution.metadata["Name"]
        if name:
            found[canonicalize_name(name)] = distribution
    return found


def graft_pytest(kit: Kit, venv: Path, without: str | None) -> tuple[str, ...]:
    """Copies pytest and what it needs into ``venv``, except the package called ``without`` (the repository itself).

    Returns problems: a package that is there already in a version that this pytest cannot work with.
    """
    source, target = kit.tools / kit.lib, venv / kit.lib
    offered, present = distributions(source), distributions(target)
    if "pytest" in present:
        return ()
    wanted = list(_closure(offered, "pytest"))
    clashes = [
        f"The fleet's pytest needs {requirement}, but the repository's dependencies hold {present[name].version}."
        for name, requirement in wanted
        if name in present and not requirement.specifier.contains(present[name].version, prereleases=True)
    ]
    if clashes or "pytest" not in offered:
        return tuple(clashes) or ("The fleet's tools hold no pytest.",)
    own = canonicalize_name(without) if without else None
    for name, _ in wanted:
        if name not in present and name != own and name in offered:
            _copy(offered[name], source, target)
    if own != "pytest":
        _commands(offered["pytest"], venv)
    return ()


def _commands(distribution: Distribution, venv: Path) -> None:
    for entry in distribution.entry_points.select(group="console_scripts"):
        script = venv / "bin" / entry.name
        script.write_text(shebang(venv / "bin" / "python") + _SCRIPT.format(module=entry.module, attr=entry.attr))
        script.chmod(0o755)


def served_by_pytest(kit: Kit, wishes: Sequence[Wish]) -> bool:
    """Whether the fleet's own pytest is all that ``wishes`` ask for, so that nothing need be fetched."""
    parts = pytest_parts(kit)
    return all(_served(Requirement(wish.text), parts) for wish in wishes)


@functools.cache
def pytest_parts(kit: Kit) -> Mapping[str, str]:
    """The fleet's own pytest and all it needs, with versions. A kit never changes, so a process reads it once."""
    offered = distributions(kit.tools / kit.lib)
    return {name: offered[name].version for name, _ in _closure(offered, "pytest") if name in offered}


def _served(wanted: Requirement, parts: Mapping[str, str]) -> bool:
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return True
    version = parts.get(canonicalize_name(wanted.name))
    return version is not None and not wanted.extras and wanted.specifier.contains(version)


def shebang(python: Path) -> str:
    """The first line(s) of a script for ``python``; long paths go by way of the shell, as pip does it."""
    path = str(python)
    if len(path) <= _SHEBANG_LIMIT and " " not in path:
        return f"#!{path}\n"
    return f"#!/bin/sh\n'''exec' \"{path}\" \"$0\" \"$@\"\n' '''\n"


def _closure(offered: dict[str, Distribution], name: str) -> Iterator[tuple[str, Requirement]]:
    todo, seen = [Requirement(name)], set()
    while todo:
        requirement = todo.pop()
        key = canonicalize_name(requirement.name)
        yield key, requirement
        if key in seen or key not in offered:
            continue
        seen.add(key)
        for text in offered[key].requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                todo.append(wanted)


def _copy(distribution: Distribution, source: Path, target: Path) -> None:
    for file in distribution.files or ():
        origin = source / file
        if ".." in file.parts or file.is_absolute() or not origin.is_file():
            continue
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(origin, place)  # with its time, so that compiled files beside it stay valid
