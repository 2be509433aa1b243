"""Takes over a folder that a sandboxed command wrote: ours, read-only, free of what could surprise the host."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fleet.core.errors import InternalError

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def take_over(folder: Path, uid: int, gid: int) -> None:
    """Makes everything below ``folder`` belong to ``uid``/``gid`` (as root), readable by all, writable by nobody.

    Symlinks are neither followed nor opened. Raises InternalError on hard links out of it and on special files.
    """
    as_root = os.geteuid() == 0
    for _, folders, files, at in os.fwalk(folder, topdown=False, follow_symlinks=False):
        for name in files:
            _own(name, at, uid, gid, as_root)
        for name in folders:
            facts = os.stat(name, dir_fd=at, follow_symlinks=False)
            if as_root:
                os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
            if not stat.S_ISLNK(facts.st_mode):
                os.chmod(name, 0o555, dir_fd=at)
    if as_root:
        os.chown(folder, uid, gid, follow_symlinks=False)
    folder.chmod(0o555)


def _own(name: str, at: int, uid: int, gid: int, as_root: bool) -> None:
    facts = os.stat(name, dir_fd=at, follow_symlinks=False)
    if stat.S_ISLNK(facts.st_mode):
        if as_root:
            os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
        return
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        raise InternalError(f"The installation left {name!r}, a special file or hard link, in the environment.")
    if as_root:
        os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
    os.chmod(name, 0o555 if facts.st_mode & stat.S_IXUSR else 0o444, dir_fd=at)


def read_small(at: int, name: str, limit: int) -> bytes | None:
    """The content of the regular file ``name`` in the open folder ``at``; None for anything else or above ``limit``."""
    try:
        descriptor = os.open(name, _OPEN | os.O_NONBLOCK, dir_fd=at)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            return None
        return file.read(limit)
