"""The repository itself as a package: its metadata, its commands, and the modules that only its build makes.

Kept apart from the dependencies, which many repositories share: building runs code of the repository, so its result
serves this repository alone. Built in the sandbox from an export of the base commit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.environments.graft import distributions, shebang
from fleet.adapters.environments.install import FLAGS, INSTALL, Rooms, tail
from fleet.adapters.environments.kit import Kit, Room, for_pip
from fleet.adapters.environments.manifest import Project
from fleet.adapters.environments.takeover import read_small, take_over
from fleet.adapters.git import BareRepo
from fleet.adapters.slots import give
from fleet.core.sandbox import MIB, SandboxResult, SandboxSpec

_UNSUPPORTED = ("maturin", "mesonpy", "scikit_build_core", "skbuild")
_VERSION = re.compile(r"^Version:\s*(\S+)\s*$", re.MULTILINE)
_TAG = re.compile(r"(\d+(?:\.\d+)+(?:[.-]?(?:a|b|rc|post|dev)\d*)?)$")
_BUILT_FROM = re.compile(
    r"\.(c|cc|cpp|h|hpp|pyx|pxd|toml|cfg|in)$|^setup\.py$|requirements|version|about|__init__\.py$", re.IGNORECASE
)
_LITTER = re.compile(r"(^|/)(build|dist|\.eggs|[^/]+\.egg-info|__pycache__)(/|$)")
_GENERATED_LIMIT = 64 * MIB


@dataclass(frozen=True, slots=True)
class Layer:
    """What building gave. ``roots`` are the folders with ``__editable__`` metadata and generated modules."""

    problems: tuple[str, ...]
    description: str
    generated: bool


def identity(project: Project, repo: BareRepo, blobs: Mapping[str, str]) -> list[str]:
    """Everything that the built layer depends on; ``blobs`` are the commit's files.

    By the repository's name and not its path: agents see it by a mirror, gates by the store.
    """
    inputs = [
        f"{path} {sha}" for path, sha in sorted(blobs.items()) if path.count("/") <= 2 and _BUILT_FROM.search(path)
    ]
    return [repo.path.name, project.backend, *project.build_requires, *inputs]


def supported(project: Project) -> str | None:
    """The sentence that says why the project cannot be built here; None when it can be tried."""
    if project.backend.startswith(_UNSUPPORTED):
        return f"The project's build backend {project.backend} needs a compiler; only its Python files are used."
    return None


def build_requires(project: Project) -> tuple[str, ...]:
    """What the build needs, with what its backend only asks for when it runs."""
    known = {"hatchling": ("editables",), "setuptools": ("wheel",)}
    return (*project.build_requires, *known.get(project.backend.partition(".")[0], ()))


def version_hint(repo: BareRepo, commit: str) -> str:
    """A version for backends that ask git, which is not there: of PKG-INFO, else the nearest tag, else 0."""
    info = repo.read(commit, "PKG-INFO", MIB)
    match = _VERSION.search(info.decode("utf-8", "replace")) if info else None
    if match:
        return match[1]
    described = repo.call("describe", "--tags", "--abbrev=0", commit, check=False)
    tag = _TAG.search(described.stdout.decode("utf-8", "replace").strip()) if described.ok else None
    return tag[1] if tag else "0"


def build(
    kit: Kit, repo: BareRepo, commit: str, base: Path, backend: Path, folder: Path, rooms: Rooms, gid: int
) -> Layer:
    """Fills ``prefix`` (metadata, commands) and ``generated`` below ``folder``.

    ``base`` holds the dependencies, ``backend`` what builds; the sandbox reads both.
    """
    prefix, generated = folder / "prefix", folder / "generated"
    for path in (prefix, generated):
        path.mkdir(mode=0o755)
    with rooms() as room:
        checkout = room.folder / "project"
        repo.export(commit, checkout)
        before = {entry.path for entry in repo.files(commit)}
        give(checkout, room.uid, room.gid)
        give(prefix, room.uid, room.gid)
        done = _run(kit, base, backend, prefix, checkout, version_hint(repo, commit), room)
        if done.ok:
            _collect(checkout, before, generated)
    _mend_scripts(prefix / "bin", base / "venv" / "bin" / "python")
    take_over(prefix, os.geteuid(), gid)
    take_over(generated, os.geteuid(), gid)
    has_generated = any(generated.iterdir())
    if not done.ok:
        problem = f"The project could not be built offline ({tail(done)}); only its files are on the path."
        return Layer((problem,), "not built", has_generated)
    named = [f"{found.metadata['Name']} {found.version}" for found in distributions(prefix / kit.lib).values()]
    return Layer((), f"{', '.join(named) or 'project'} built", has_generated)


def _run(kit: Kit, base: Path, backend: Path, prefix: Path, checkout: Path, version: str, room: Room) -> SandboxResult:
    python = base / "venv" / "bin" / "python"
    words = (*FLAGS, "--no-build-isolation", "--use-pep517", "--ignore-installed", "--no-compile")
    spec = SandboxSpec(
        argv=(str(python), "-I", str(kit.runner), "install", *words, "--prefix", str(prefix), "-e", "."),
        workspace=checkout,
        env={
            # Inherited by the build backend, which pip starts without -I.
            "PYTHONPATH": str(backend),
            "SETUPTOOLS_SCM_PRETEND_VERSION": version,
            "PBR_VERSION": version,
            "POETRY_DYNAMIC_VERSIONING_BYPASS": version,
            "PDM_BUILD_SCM_VERSION": version,
        },
        read_only=for_pip(kit, base, backend),
        writable=(prefix,),
        limits=INSTALL,
    )
    return room.sandbox.run(spec)


def _collect(checkout: Path, before: set[str], generated: Path) -> None:
    """Copies the modules that the build made beside the sources; bytes of the sandbox, read without following links."""
    total = 0
    for here, folders, files, at in os.fwalk(checkout, follow_symlinks=False):
        relative = os.path.relpath(here, checkout)
        folders[:] = [name for name in folders if not _LITTER.search(name) and not name.startswith(".")]
        for name in files:
            path = name if relative == "." else f"{relative}/{name}"
            if path in before or not name.endswith((".py", ".so")):
                continue
            data = read_small(at, name, _GENERATED_LIMIT - total)
            if data is not None:
                total += len(data)
                place = generated / path.removeprefix("src/").removeprefix("lib/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)


def _mend_scripts(folder: Path, python: Path) -> None:
    """Scripts in the layer start the environment's own Python, whatever the build wrote into their first line."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for _, folders, files, at in os.fwalk(folder, follow_symlinks=False):
        folders.clear()
        for name in files:
            data = read_small(at, name, MIB)
            if data is not None and data.startswith(b"#!") and b"python" in data.split(b"\n", 1)[0]:
                os.unlink(name, dir_fd=at)
                descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755, dir_fd=at)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(shebang(python).encode() + data.split(b"\n", 1)[-1])
