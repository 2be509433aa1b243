"""What the plan and policy are made of, read from the fleet's own repository and the prepared environment."""

from __future__ import annotations

import os
from pathlib import Path

from ci_gates.edits import ABSENT, SUBMODULE, Edit
from ci_gates.plan import CONFIG_FILES
from fleet.adapters.git import BareRepo, FileChange
from fleet.core.environment import Prepared
from fleet.core.sandbox import MIB

PROGRAMS = ("ruff", "mypy", "pyright", "pytest")
_READ = 4 * MIB
_CONFIG = MIB


def read_texts(store: BareRepo, commit: str, files: tuple[str, ...]) -> dict[str, bytes]:
    """The CONFIG_FILES that ``commit`` has."""
    present = set(files)
    contents = {name: store.read(commit, name, _CONFIG) for name in CONFIG_FILES if name in present}
    return {name: data for name, data in contents.items() if data is not None}


def read_edits(store: BareRepo, base: str, head: str) -> tuple[Edit, ...]:
    """The change path by path, with contents up to 4 MiB a file."""
    changes = store.changes(base, head, renames=False)
    shas = [sha for one in changes for sha, mode in _sides(one) if mode not in (ABSENT, SUBMODULE)]
    contents = store.blobs(shas, _READ)
    sizes = {entry.path: entry.size for entry in store.files(head)}
    return tuple(
        Edit(
            one.path,
            one.old_mode,
            one.new_mode,
            contents.get(one.old_blob) if one.old_mode != ABSENT else None,
            contents.get(one.new_blob) if one.new_mode != ABSENT else None,
            sizes.get(one.path, 0),
        )
        for one in changes
    )


def _sides(change: FileChange) -> tuple[tuple[str, str], tuple[str, str]]:
    return (change.old_blob, change.old_mode), (change.new_blob, change.new_mode)


def offered(prepared: Prepared) -> frozenset[str]:
    """Which of the tools that gates are detected for the environment has."""
    folders = (*prepared.path, prepared.python.parent)
    return frozenset(name for name in PROGRAMS if any(_runs(folder / name) for folder in folders))


def _runs(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK)
