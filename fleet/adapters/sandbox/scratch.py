"""Private folders of running commands, and the janitor that removes what a killed fleet left.

A folder is alive while its creator holds a lock on it; the kernel drops the lock with the process, whatever its death.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet.adapters.sandbox import procfs

_PREFIXES = ("tmp-", "probe-")
_KILL_ROUNDS = 50


@contextmanager
def private_folder(scratch: Path, prefix: str, mode: int = 0o700) -> Iterator[Path]:
    """A new folder below ``scratch``, removed at the end."""
    with _locked(scratch, fcntl.LOCK_SH):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))
        lock = _lock(folder, fcntl.LOCK_EX)
    try:
        folder.chmod(mode)
        yield folder
    finally:
        remove(folder)
        os.close(lock)


def sweep(scratch: Path) -> list[Path]:
    """Ends what still uses a private folder whose creator is dead, and removes it. Safe beside running commands.

    Without a PID namespace a daemon outlives a kill -9 of both the fleet and its launcher; its environment still names
    the private folder that it was started with.
    """
    removed = []
    with _locked(scratch, fcntl.LOCK_EX):
        for folder in sorted(scratch.iterdir()):
            if not folder.name.startswith(_PREFIXES) or folder.is_symlink() or not folder.is_dir():
                continue
            try:
                lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            end_users(folder)
            remove(folder)
            os.close(lock)
            removed.append(folder)
    return removed


def end_users(folder: Path) -> None:
    """Kills every process whose environment names ``folder``; a few rounds, for what forks meanwhile."""
    for _ in range(_KILL_ROUNDS):
        pids = procfs.mentioning(folder)
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def remove(folder: Path) -> None:
    """Removes a tree that untrusted commands filled; all of them must be dead. Raises OSError when something stays.

    Any depth: folders are moved up before they are emptied, where a recursion would run out of stack or descriptors.
    Folders whose rights the command took away are opened again.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(top, stat.S_IRWXU)
        fresh = itertools.count()
        while names := os.listdir(top):
            for name in names:
                if _is_folder(name, top):
                    _raise_children(name, top, fresh)
                    os.rmdir(name, dir_fd=top)
                else:
                    os.unlink(name, dir_fd=top)
    finally:
        os.close(top)
    folder.rmdir()


def _raise_children(name: str, top: int, fresh: Iterator[int]) -> None:
    """Empties the folder ``name`` of ``top``: unlinks its files, moves its folders into ``top`` under fresh names."""
    os.chmod(name, stat.S_IRWXU, dir_fd=top)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        for child in os.listdir(folder):
            if not _is_folder(child, folder):
                os.unlink(child, dir_fd=folder)
                continue
            os.chmod(child, stat.S_IRWXU, dir_fd=folder)  # moving a folder writes its ".." entry
            while True:
                try:
                    os.rename(child, f".removed-{next(fresh)}", src_dir_fd=folder, dst_dir_fd=top)
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
    finally:
        os.close(folder)


def _is_folder(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    lock = _lock(folder, kind)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, kind: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
