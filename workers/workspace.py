"""The agent's working copy: a clone that borrows the mirror's objects, byte for byte what the base commit holds.

The fleet's git works here only until the copy is handed over; afterwards nothing of the host's git ever runs in it
(I11), and ``workers.handover`` reads it as plain files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.git import BareRepo
from fleet.adapters.git_run import PLAIN_ATTRIBUTES, checked, git
from fleet.adapters.slots import Slot, give

# What an agent's git finds in .git/config. The identity only serves its own trial commits.
_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
\thooksPath = /dev/null
[gc]
\tauto = 0
[user]
\tname = Fleet agent
\temail = agent@localhost
"""
_CHECKOUT_S = 900.0
# Writing thousands of small files waits for the disk; git does it with a process per core above a hundred files.
_EVERY_CORE = (("checkout.workers", "0"),)


@dataclass(frozen=True, slots=True)
class Workspace:
    """``folder`` is the checkout, ``mirror`` what the sandbox must show read-only at its own path."""

    folder: Path
    mirror: Path
    base_sha: str
    files: int
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What an earlier attempt handed over: a bundle with ``commit``."""

    bundle: Path
    commit: str


def make(
    mirror: BareRepo, slot: Slot, base: str, base_sha: str, branch: str, change: Change | None = None
) -> Workspace:
    """Checks ``base_sha`` out on ``branch`` in the slot's folder and hands it to the slot's user.

    The same as ``git clone --shared --no-checkout`` and a checkout, without copying the mirror's refs. ``change``: the
    change of an earlier attempt, which lies on top, not committed, unless it conflicts with what base is now.
    """
    folder = slot.folder / "workspace"
    git_dir = folder / ".git"
    for path in (
        git_dir / "objects" / "info",
        git_dir / "objects" / "pack",
        git_dir / "refs" / "heads",
        git_dir / "info",
    ):
        path.mkdir(parents=True)
    (git_dir / "objects" / "info" / "alternates").write_text(f"{mirror.path / 'objects'}\n")
    (git_dir / "info" / "attributes").write_text(PLAIN_ATTRIBUTES)
    (git_dir / "config").write_text(_CONFIG)
    (git_dir / "HEAD").write_text(f"ref: refs/heads/{checked(branch)}\n")
    for name in (f"heads/{branch}", f"remotes/origin/{checked(base)}"):
        ref = git_dir / "refs" / name
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(f"{base_sha}\n")
    git("read-tree", "--reset", "-u", checked(base_sha), cwd=folder, timeout=_CHECKOUT_S, settings=_EVERY_CORE)
    resumed = change is not None and _lay(folder, base_sha, change)
    files = len(git("ls-files", "-z", cwd=folder).stdout.split(b"\0")) - 1
    give(slot.folder, slot.uid, slot.gid)
    os.chmod(slot.folder, 0o700)
    return Workspace(folder, mirror.path, base_sha, files, resumed)


def _lay(folder: Path, base_sha: str, change: Change) -> bool:
    """Puts the change's files over the checkout; the index stays base's, so that ``git diff`` shows the change."""
    git("bundle", "unbundle", os.fspath(change.bundle), cwd=folder, timeout=_CHECKOUT_S)
    merged = git("merge-tree", "--write-tree", checked(base_sha), checked(change.commit), cwd=folder, check=False)
    if merged.returncode != 0:
        return False
    tree = merged.stdout.split()[0].decode()
    git("read-tree", "--reset", "-u", checked(tree), cwd=folder, timeout=_CHECKOUT_S, settings=_EVERY_CORE)
    git("read-tree", checked(base_sha), cwd=folder, timeout=_CHECKOUT_S)
    return True
