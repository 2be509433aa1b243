"""Processes of our own code made by fork: their ties to their parent, what they must not inherit, and their end."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fleet.adapters.sandbox import procfs
from fleet.core.ports import Clock

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
FAILED = 70  # EX_SOFTWARE: our own code raised


def fork(child: Callable[[], None]) -> int:
    """Runs ``child`` in a forked process and returns its pid. The child never returns into the caller's code.

    Fork before starting threads. Signal handlers are reset to their defaults in the child.
    """
    pid = os.fork()
    if pid:
        return pid
    status = FAILED
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        child()
        status = 0
    except BaseException:
        # A forked child's last words: the log is where its standard error goes.
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def die_with(parent: int) -> None:
    """The kernel kills this process when ``parent`` (the thread that forked it) dies. Call it in the child."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(FAILED)


def name_process(name: str) -> None:
    """What ``top`` and ``ps -o comm`` show; 15 bytes at most."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]), 0, 0, 0)


def adopt_orphans() -> None:
    """Orphans below this process become its children, so that none can slip away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Processes of the same user may neither trace this one nor read its environment."""
    _prctl(_PR_SET_DUMPABLE, 0)


def show_memory() -> None:
    """Undoes ``hide_memory`` in a child, which could otherwise not look at its own descriptors."""
    _prctl(_PR_SET_DUMPABLE, 1)


def forget(keep: Iterable[int]) -> None:
    """Makes every inherited descriptor but 0–2 and ``keep`` harmless (I7: the parent's connections are not ours).

    They are pointed at /dev/null instead of closed: an inherited object that closes "its" number later
    must not hit a file that was opened meanwhile.
    """
    kept = {0, 1, 2, *keep}
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in _descriptors():
        if number not in kept and number != null:
            with suppress(OSError):
                os.dup2(null, number, inheritable=False)
    os.close(null)


def kill_below(root: int, clock: Clock, seconds: float = 10.0) -> bool:
    """Kills every process below ``root`` (itself not); True when all were seen dead within ``seconds``.

    Call it as ``root`` itself, after ``adopt_orphans``: then whatever forks meanwhile is found in the next round.
    """
    deadline = clock.monotonic() + seconds
    while True:
        rows = procfs.descendants(root)
        for row in rows:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(row.pid, signal.SIGKILL)
        reap()
        if not rows:
            return True
        if clock.monotonic() > deadline:
            return False
        clock.sleep(0.01)


def kill_tree(pid: int) -> None:
    """SIGKILL to ``pid`` and everything below it, once, without waiting."""
    for each in (pid, *(row.pid for row in procfs.descendants(pid))):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


def reap() -> tuple[int, ...]:
    """Takes the status of every child that ended; returns their pids."""
    gone: list[int] = []
    with suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            gone.append(pid)
    return tuple(gone)


def children(pid: int) -> tuple[int, ...]:
    """The live direct children of ``pid``."""
    return tuple(row.pid for row in procfs.descendants(pid) if row.parent == pid)


def _descriptors() -> Iterator[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if Path(folder).is_dir():
            yield from [int(name) for name in os.listdir(folder)]
            return


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {errno.errorcode.get(number, number)}")
