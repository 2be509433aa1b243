"""Slots: folders for one sandboxed piece of work each, and as root a uid of its own each.

A slot is held by a lock that the kernel releases when its holder dies, so that none is ever leaked.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.layout import SLOTS_PER_HOME, Layout
from fleet.adapters.process import run
from fleet.adapters.sandbox import procfs
from fleet.core.errors import TemporaryError

_REMOVE_S = 300.0
_KILL_ROUNDS = 50


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

    def sweep(self) -> tuple[int, ...]:
        """Empties the folders whose holder died without doing so; returns their numbers (I10)."""
        left = []
        for number in range(1, SLOTS_PER_HOME):
            if not os.path.lexists(self._folder(number)):
                continue
            lock = self._try(number)
            if lock is None:
                continue
            try:
                if os.path.lexists(self._folder(number)):
                    self._end_processes(number)
                    remove_tree(self._folder(number))
                    left.append(number)
            finally:
                os.close(lock)
        return tuple(left)

    def _end_processes(self, number: int) -> None:
        """As root a slot has its own uid: whatever still runs under it belongs to a holder that is dead."""
        if not self._layout.as_root:
            return
        for _ in range(_KILL_ROUNDS):
            pids = procfs.owned_by(self._layout.slot_uid(number))
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _lock(self, purpose: str) -> tuple[int, int]:
        self._layout.slots.mkdir(parents=True, exist_ok=True)
        for number in range(1, SLOTS_PER_HOME):
            lock = self._try(number)
            if lock is not None:
                os.ftruncate(lock, 0)
                os.write(lock, f"{os.getpid()} {purpose}\n".encode())
                return number, lock
        raise TemporaryError(f"All {SLOTS_PER_HOME - 1} slots of this machine are taken.", retry_after=5.0)

    def _try(self, number: int) -> int | None:
        path = self._layout.slots / f"{number:02d}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _folder(self, number: int) -> Path:
        return self._layout.slots / f"{number:02d}"

    def _open(self, number: int) -> Slot:
        self._empty(number)
        folder = self._folder(number)
        folder.mkdir(mode=0o700)
        return Slot(number, self._layout.slot_uid(number), self._layout.slot_gid(), folder)

    def _empty(self, number: int) -> None:
        folder = self._folder(number)
        if os.path.lexists(folder):
            remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Removes what an agent may have made hard to remove: folders without permissions, nested by the thousand.

    By ``rm``, which never follows a symlink and needs no recursion, however deep the tree is.
    """
    where = folder.parent
    env = {"PATH": os.defpath, "LC_ALL": "C"}
    if run(("rm", "-rf", "--", str(folder)), cwd=where, env=env, timeout=_REMOVE_S, check=False).ok:
        return
    run(("chmod", "-R", "u+rwx", "--", str(folder)), cwd=where, env=env, timeout=_REMOVE_S, check=False)
    run(("rm", "-rf", "--", str(folder)), cwd=where, env=env, timeout=_REMOVE_S)


def give(folder: Path, uid: int, gid: int) -> None:
    """Hands a whole tree over to ``uid`` (as root; otherwise it is ours already). Symlinks are not followed."""
    if os.geteuid() != 0:
        return
    _give_below(os.fspath(folder), uid, gid)
    os.chown(folder, uid, gid, follow_symlinks=False)


def _give_below(folder: str, uid: int, gid: int) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _give_below(entry.path, uid, gid)
            os.chown(entry.path, uid, gid, follow_symlinks=False)
