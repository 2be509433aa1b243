"""Slots: folders for one sandboxed piece of work each, and as root a uid of its own each.

A slot is held by a lock that the kernel releases when its holder dies, so that none is ever leaked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.layout import SLOTS_PER_HOME, Layout
from fleet.core.errors import TemporaryError


@dataclass(frozen=True, slots=True)
class Slot:
    """``folder`` is empty at first and ours; hand it over with ``give`` before anything untrusted runs in it."""

    number: int
    uid: int
    gid: int
    folder: Path


class Slots:
    """The slots of one fleet home. ``purpose`` is written into the lock file, for people who look."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @contextmanager
    def acquire(self, purpose: str) -> Iterator[Slot]:
        """A free slot, emptied before and after. Raises TemporaryError when all are taken."""
        number, lock = self._lock(purpose)
        try:
            slot = self._open(number)
            yield slot
        finally:
            with suppress(OSError):
                self._empty(number)
            os.close(lock)

    def _lock(self, purpose: str) -> tuple[int, int]:
        self._layout.slots.mkdir(parents=True, exist_ok=True)
        for number in range(1, SLOTS_PER_HOME):
            path = self._layout.slots / f"{number:02d}.lock"
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()} {purpose}\n".encode())
            return number, lock
        raise TemporaryError(f"All {SLOTS_PER_HOME - 1} slots of this machine are taken.", retry_after=5.0)

    def _open(self, number: int) -> Slot:
        self._empty(number)
        folder = self._layout.slots / f"{number:02d}"
        folder.mkdir(mode=0o700)
        return Slot(number, self._layout.slot_uid(number), self._layout.slot_gid(), folder)

    def _empty(self, number: int) -> None:
        folder = self._layout.slots / f"{number:02d}"
        if os.path.lexists(folder):
            remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Removes what an agent may have made unremovable (folders without permissions); never follows a symlink."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        return
    for here, folders, _ in os.walk(folder, topdown=True):
        for path in (here, *(os.path.join(here, name) for name in folders)):
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)


def give(folder: Path, uid: int, gid: int) -> None:
    """Hands a whole tree over to ``uid`` (as root; otherwise it is ours already). Symlinks are not followed."""
    if os.geteuid() != 0:
        return
    for _, folders, files, at in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
    os.chown(folder, uid, gid, follow_symlinks=False)
