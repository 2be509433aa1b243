"""The pace of writes to the forge, shared by every client of one fleet on this machine.

GitHub allows about 80 content-creating requests a minute for the whole installation, so a gap that each client object
keeps for itself is no limit at all. The turn is handed round by a lock on one small file.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fleet.core.ports import Clock


class Throttle:
    """Lets one write through every ``gap`` seconds. ``path`` None: no pace (a forge of our own on this machine)."""

    def __init__(self, clock: Clock, path: Path | None = None, gap: float = 1.0) -> None:
        self._clock = clock
        self._path = path
        self._gap = gap

    def wait(self) -> None:
        """Blocks until it is this caller's turn; callers queue in the order in which they got the lock."""
        if self._path is None:
            return
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            now = self._clock.monotonic()
            due = min(self._due(handle), now + self._gap)  # after a reboot the stored number means nothing
            if due > now:
                self._clock.sleep(due - now)
            os.pwrite(handle, f"{max(due, now) + self._gap:032.6f}".encode(), 0)
        finally:
            os.close(handle)

    @staticmethod
    def _due(handle: int) -> float:
        try:
            return float(os.pread(handle, 32, 0) or b"0")
        except ValueError:
            return 0.0
