"""Prepared environments for Python: wheels fetched outside, installed offline in the sandbox, shared by digest."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from packaging.utils import canonicalize_name

from fleet.adapters.environments import install, project
from fleet.adapters.environments.detect import detect
from fleet.adapters.environments.fetch import Fetched, IndexSettings, Pip, fetch_pins, fetch_wishes
from fleet.adapters.environments.graft import pytest_parts, served_by_pytest
from fleet.adapters.environments.install import Rooms
from fleet.adapters.environments.kit import RECIPE, Kit, kit_of
from fleet.adapters.environments.manifest import Manifest, Project, Rank, Wish, wish_of
from fleet.adapters.environments.store import Made, Store
from fleet.adapters.environments.takeover import take_over
from fleet.adapters.git import BareRepo
from fleet.adapters.layout import Layout
from fleet.adapters.slots import remove_tree
from fleet.core.environment import Prepared
from fleet.core.errors import FleetError
from fleet.core.ports import Clock
from fleet.core.sandbox import MIB

WORKSPACE = "{workspace}"
_FILE_LIMIT = 16 * MIB
# A repository that is one of these must not meet the released copy of itself.
_PYTEST_PARTS = frozenset({"pytest", "pluggy", "iniconfig", "packaging", "pygments"})


class CommitFiles:
    """The files of one commit of one of the fleet's own repositories."""

    def __init__(self, repo: BareRepo, commit: str) -> None:
        self._repo = repo
        self.blobs = {entry.path: entry.blob for entry in repo.files(commit) if entry.mode in ("100644", "100755")}

    def names(self) -> frozenset[str]:
        return frozenset(self.blobs)

    def read(self, path: str) -> str | None:
        blob = self.blobs.get(path)
        data = self._repo.blobs([blob], _FILE_LIMIT).get(blob) if blob else None
        try:
            return None if data is None else data.decode("utf-8")
        except UnicodeDecodeError:
            return None


class PythonEnvironments:
    """Implements ``fleet.core.environment.Environments``.

    ``tools``: the environment that bin/fleet made from requirements/tools.txt. ``rooms`` opens a slot with a sandbox
    for as long as one installation takes. ``Prepared.env`` holds the token ``{workspace}``: see ``resolve_env``.
    """

    def __init__(self, layout: Layout, tools: Path, rooms: Rooms, index: IndexSettings, clock: Clock) -> None:
        self._layout = layout
        self._tools = tools
        self._rooms = rooms
        self._index = index
        self._clock = clock
        self._store = Store(layout.environments, clock)

    @functools.cached_property
    def _kit(self) -> Kit:
        return kit_of(self._tools)

    def prepare(self, git_dir: Path, commit: str) -> Prepared:
        """See the port. Raises TemporaryError (index away, disk full) and ParkError (no tools, no sandbox)."""
        repo = BareRepo(git_dir)
        files = CommitFiles(repo, commit)
        manifest = detect(files)
        base = self._dependencies(manifest)
        layer = self._layer(manifest.project, repo, commit, files, base) if manifest.project else None
        return self._prepared(manifest, base, layer)

    def warm(self) -> None:
        """Reads what all attempts need to know of the tools, before they are forked; silent when there are none."""
        with suppress(FleetError):
            pytest_parts(self._kit)

    def prune(self, max_bytes: int, idle_seconds: float = 86400.0) -> int:
        """Removes what was not used for longest until ``max_bytes`` are left; returns the bytes freed."""
        return self._store.prune(max_bytes, idle_seconds)

    # --- the two layers ---------------------------------------------------------------------------------------

    def _dependencies(self, manifest: Manifest) -> Made:
        if not manifest.pins and served_by_pytest(self._kit, manifest.wishes):
            manifest = replace(manifest, wishes=())
        wishes = sorted(wish.text for wish in manifest.wishes)
        own = manifest.project.name if manifest.project else None
        relevant = own if own and (manifest.names or canonicalize_name(own) in _PYTEST_PARTS) else ""
        digest = self._digest("env", *wishes, *(pin.line() for pin in manifest.pins), f"without {relevant}")
        made = self._store.find(digest)
        if made is not None:
            return made
        with self._store.making(digest) as folder:
            if folder is not None:
                fetched = self._fetch(manifest, folder)
                wheels = [path for path in fetched.wheels if not _is(path, own)]
                problems = install.make_venv(
                    self._kit, folder / "venv", self._layout.slot_gid(), wheels, self._rooms, own
                )
                have = install.installed(self._kit, folder / "venv")
                facts = (("packages", str(len(have))), ("pytest", have.get("pytest", "")))
                _drop(folder, "wheels", "locked", "scratch", "wheels.txt")
                how = "by lock" if manifest.pins else "by ranges" if manifest.wishes else "the fleet's own pytest"
                said = f"{len(have)} packages, {how}"
                self._store.finish(Made(folder, said, (*fetched.problems, *problems), facts))
        return self._found(digest)

    def _fetch(self, manifest: Manifest, folder: Path) -> Fetched:
        pip = self._pip()
        locked = fetch_pins(pip, manifest.pins, folder / "locked") if manifest.pins else Fetched((), ())
        pinned = {canonicalize_name(pin.name) for pin in manifest.pins}
        free = (
            fetch_wishes(pip, manifest.wishes, manifest.pins, folder / "wheels") if manifest.wishes else Fetched((), ())
        )
        # What a pin names comes by its hash or not at all.
        wheels = (*locked.wheels, *(path for path in free.wheels if _name(path) not in pinned))
        return Fetched(wheels, (*locked.problems, *free.problems))

    def _layer(self, wanted: Project, repo: BareRepo, commit: str, files: CommitFiles, base: Made) -> Made | None:
        if not wanted.backend:
            return None
        refusal = project.supported(wanted)
        if refusal is not None:
            return Made(base.folder, "not built", (refusal,))
        digest = self._digest("project", base.folder.name, *project.identity(wanted, repo, files.blobs))
        made = self._store.find(digest)
        if made is not None:
            return made
        with self._store.making(digest) as folder:
            if folder is not None:
                self._store.finish(self._build(wanted, repo, commit, base, folder))
        return self._found(digest)

    def _build(self, wanted: Project, repo: BareRepo, commit: str, base: Made, folder: Path) -> Made:
        backend = self._backend(project.build_requires(wanted))
        if not backend.fact("ready"):
            return Made(folder, "not built", backend.problems)
        layer = project.build(
            self._kit, repo, commit, base.folder, backend.folder / "site", folder, self._rooms, self._layout.slot_gid()
        )
        facts = (("generated", "yes" if layer.generated else ""), ("prefix", "yes"))
        return Made(folder, layer.description, (*backend.problems, *layer.problems), facts)

    def _backend(self, requires: Sequence[str]) -> Made:
        """What builds, shared by every project that asks for the same: never seen by agents and gates."""
        wishes, refused = _build_wishes(requires)
        digest = self._digest("build", *sorted(wish.text for wish in wishes), *refused)
        made = self._store.find(digest)
        if made is not None:
            return made
        with self._store.making(digest) as folder:
            if folder is not None:
                self._store.finish(self._make_backend(wishes, refused, folder))
        return self._found(digest)

    def _make_backend(self, wishes: Sequence[Wish], problems: tuple[str, ...], folder: Path) -> Made:
        wheels, site, venv = folder / "wheels", folder / "site", folder / "venv"
        missing = self._pip().download([wish.text for wish in wishes], wheels) if wishes else None
        if missing is not None:
            said = f"The project cannot be built, since its build requirements cannot be had ({missing.detail})."
            return Made(folder, "not built", (*problems, said))
        install.bare_venv(self._kit, venv)
        site.mkdir(mode=0o755)
        found = sorted(wheels.glob("*.whl"))
        for path in found:
            path.chmod(0o644)
        words = ("--target", str(site), *map(str, found))
        done = install.pip_install(self._kit, venv, words, site, (folder,), self._rooms)
        take_over(site, self._layout.uid, self._layout.slot_gid())
        _drop(folder, "wheels", "scratch", "venv")
        if not done.ok:
            said = f"The build requirements could not be installed: {install.tail(done)}."
            return Made(folder, "not built", (*problems, said))
        return Made(folder, "build requirements", problems, (("ready", "yes"),))

    # --- helpers ----------------------------------------------------------------------------------------------

    def _pip(self) -> Pip:
        return Pip((str(self._kit.tools / "bin" / "python"), "-I", str(self._kit.runner)), self._index, self._clock)

    def _digest(self, *parts: str) -> str:
        whole = "\n".join([f"recipe {RECIPE}", self._kit.version, str(self._kit.prefix), self._kit.digest, *parts])
        return hashlib.sha256(whole.encode()).hexdigest()[:20]

    def _found(self, digest: str) -> Made:
        made = self._store.find(digest)
        if made is None:  # pruned by somebody in between: cannot be within the idle time, so it is a broken promise
            raise FileNotFoundError(self._store.folder(digest))
        return made

    def _prepared(self, manifest: Manifest, base: Made, layer: Made | None) -> Prepared:
        kit, venv = self._kit, base.folder / "venv"
        roots = manifest.project.roots if manifest.project else (".",)
        places = [WORKSPACE if root == "." else f"{WORKSPACE}/{root}" for root in roots]
        path, read_only, env = (
            [venv / "bin"],
            [base.folder, *kit.read_only],
            {"VIRTUAL_ENV": str(venv), "PIP_NO_INDEX": "1"},
        )
        digest = base.folder.name
        if layer is not None and layer.fact("prefix"):
            digest = layer.folder.name
            places.append(str(layer.folder / "prefix" / kit.lib))
            path.append(layer.folder / "prefix" / "bin")
            read_only.append(layer.folder)
            if layer.fact("generated"):
                env["FLEET_GENERATED"] = str(layer.folder / "generated")
        env["FLEET_SITE_PATHS"] = ":".join(places)
        sources = ", ".join(manifest.sources) or "no dependencies declared"
        parts = [
            f"Python {kit.version}",
            f"{base.description} ({sources})",
            f"pytest {base.fact('pytest') or 'of the project'}",
        ]
        parts += [layer.description] if layer else []
        return Prepared(
            digest=digest,
            read_only=tuple(read_only),
            path=(*path, kit.tools / "bin"),
            env=tuple(sorted(env.items())),
            python=venv / "bin" / "python",
            description="; ".join(parts),
            problems=(*manifest.problems, *base.problems, *(layer.problems if layer else ())),
        )


def resolve_env(prepared: Prepared, inside: Path) -> dict[str, str]:
    """``Prepared.env`` for a checkout that the command sees at ``inside`` (``sandbox.inside(workspace)``)."""
    return {name: value.replace(WORKSPACE, str(inside)) for name, value in prepared.env}


def _build_wishes(texts: Sequence[str]) -> tuple[list[Wish], tuple[str, ...]]:
    found = [wish_of(text, Rank.RUNTIME, "[build-system] of pyproject.toml") for text in dict.fromkeys(texts)]
    return [item for item in found if isinstance(item, Wish)], tuple(item for item in found if isinstance(item, str))


def _name(wheel: Path) -> str:
    return canonicalize_name(wheel.name.split("-", 1)[0])


def _is(wheel: Path, name: str | None) -> bool:
    return name is not None and _name(wheel) == canonicalize_name(name)


def _drop(folder: Path, *names: str) -> None:
    for name in names:
        if (folder / name).exists():
            remove_tree(folder / name)
