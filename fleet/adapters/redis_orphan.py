"""Ends the ledger's own server when its folder was removed under it: what it is told from then on would be lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fleet.core.ports import Clock

_GONE_WITHIN_S = 20.0


def end_orphan(pid: int, uid: int, folder: Path, gone: Callable[[], bool], clock: Clock) -> bool:
    """False for a stranger; True once ``gone`` says that nobody answers on the socket any more.

    Call it only while the folder's lock is free. Then a process of ours that answers on our private socket and works in
    ``folder``, or in the one that was removed, is the server that should hold that lock.
    """
    if uid != os.geteuid() or not _works_in(pid, folder):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # it could only write into files that are gone
    deadline = clock.monotonic() + _GONE_WITHIN_S
    while not gone():
        if clock.monotonic() >= deadline:
            return False
        clock.sleep(0.02)
    return True


def _works_in(pid: int, folder: Path) -> bool:
    place = ""
    with suppress(OSError):
        place = os.readlink(f"/proc/{pid}/cwd")
    return place in (os.path.realpath(folder), f"{os.path.realpath(folder)} (deleted)")
