"""Private folders of running commands, and the janitor that removes what a killed fleet left.

A folder is alive while its creator holds a lock on it; the kernel drops the lock with the process, whatever its death.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIXES = ("tmp-", "probe-")


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
    """Removes the private folders whose creator is dead; returns them. Safe beside running commands."""
    removed = []
    with _locked(scratch, fcntl.LOCK_EX):
        for folder in sorted(scratch.iterdir()):
            if not folder.name.startswith(_PREFIXES) or folder.is_symlink() or not folder.is_dir():
                continue
            try:
                lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove(folder)
            os.close(lock)
            removed.append(folder)
    return removed


def remove(folder: Path) -> None:
    """Removes ``folder`` even when the command took its own rights to parts of it away. Its processes must be dead."""

    def again(function: Callable[[str], object], path: str, _: object) -> None:
        with suppress(OSError):
            os.chmod(os.path.dirname(path), stat.S_IRWXU)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
                shutil.rmtree(path, ignore_errors=True)
            else:
                function(path)

    shutil.rmtree(folder, onerror=again)


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
