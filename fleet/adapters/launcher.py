"""Attempts as processes of this machine: started by the attempt host, found by the lock that each one holds.

A lock ends with its holder, whatever ends it, and a pid that was used again never holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path

from fleet.adapters.layout import Layout
from fleet.adapters.sandbox import procfs
from fleet.core.errors import InternalError, TemporaryError
from fleet.core.ports import Clock, LiveAttempt

HOST_SOCKET = "attempts.sock"
_NAME = re.compile(r"(?P<ticket>.+)\.(?P<attempt>\d+)")
_ANSWER_S = 10.0
_POLL_S = 0.25
_KILL_S = 10.0
_TRIES = 20


class LocalLauncher:
    """Implements ``fleet.core.ports.Launcher`` through the attempt host's socket (``workers.host``)."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self._layout = layout
        self._clock = clock

    def start(self, ticket: str, attempt: int) -> LiveAttempt:
        """Raises TemporaryError when the attempt host does not answer."""
        asked = json.dumps({"ticket": ticket, "attempt": attempt}).encode()
        try:
            with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
                line.settimeout(_ANSWER_S)
                line.connect(str(self._layout.runtime / HOST_SOCKET))
                line.sendall(asked + b"\n")
                answer = json.loads(line.makefile("rb").readline() or b"{}")
        except (OSError, ValueError) as error:
            raise TemporaryError(f"The attempt host does not answer ({error}).", "Is the fleet up?") from error
        if "pid" not in answer:
            raise TemporaryError(f"The attempt host could not start the attempt: {answer.get('error', 'no answer')}.")
        return LiveAttempt(ticket, attempt, int(answer["pid"]))

    def find(self, ticket: str, attempt: int) -> LiveAttempt | None:
        pid = holder(folder_of(self._layout.attempts, ticket, attempt))
        return LiveAttempt(ticket, attempt, pid) if pid else None

    def live(self) -> tuple[LiveAttempt, ...]:
        found = []
        for folder in sorted(self._layout.attempts.iterdir()) if self._layout.attempts.is_dir() else ():
            name = _NAME.fullmatch(folder.name)
            pid = holder(folder) if name else None
            if name and pid:
                found.append(LiveAttempt(name["ticket"], int(name["attempt"]), pid))
        return tuple(found)

    def wait(self, attempt: LiveAttempt, timeout: float) -> bool:
        deadline = self._clock.monotonic() + timeout
        while self._is(attempt):
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            self._until_exit(attempt.pid, min(left, _KILL_S))
        return True

    def kill(self, attempt: LiveAttempt) -> bool:
        """SIGTERM to the guard, which ends its own tree; then SIGKILL to whatever is left of it."""
        tree = {row.pid: _born(row.pid) for row in procfs.descendants(attempt.pid)}
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._is(attempt):
                with suppress(ProcessLookupError):
                    os.kill(attempt.pid, number)
            if self.wait(attempt, _KILL_S):
                break
        deadline = self._clock.monotonic() + _KILL_S
        while left := [pid for pid, born in tree.items() if born and _born(pid) == born]:
            if self._clock.monotonic() > deadline:
                return False
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._clock.sleep(0.02)
        return not self._is(attempt)

    def _is(self, attempt: LiveAttempt) -> bool:
        return holder(folder_of(self._layout.attempts, attempt.ticket, attempt.attempt)) == attempt.pid

    def _until_exit(self, pid: int, seconds: float) -> None:
        """Sleeps until ``pid`` ends or ``seconds`` passed. The lock is asked afterwards: a pid may be used again."""
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            self._clock.sleep(0.01)
            return
        except (AttributeError, OSError):
            self._clock.sleep(min(seconds, _POLL_S))
            return
        try:
            select.select([watched], [], [], seconds)
        finally:
            os.close(watched)


def folder_of(attempts: Path, ticket: str, attempt: int) -> Path:
    """The folder of one attempt. Raises InternalError for a ticket id that is no single name."""
    if not ticket or "/" in ticket or ticket.startswith(".") or attempt < 1:
        raise InternalError(f"{ticket[:80]!r} attempt {attempt} is no attempt.")
    return attempts / f"{ticket}.{attempt}"


def take(folder: Path, clock: Clock) -> int | None:
    """Locks an attempt's folder for good: the descriptor is the lock. None when a live guard has it."""
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its former holder may have removed the file between our two steps; then we hold nothing.
            if os.path.samestat(os.fstat(lock), os.stat(folder / "lock")):
                return lock
        except (BlockingIOError, FileNotFoundError):
            # Whoever merely looks holds a shared lock for some microseconds.
            clock.sleep(0.005)
        os.close(lock)
    return None


def sign(lock: int, pid: int) -> None:
    """Writes the holder's pid into its lock file."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{pid}\n".encode(), 0)


def leave(folder: Path) -> None:
    """Removes the folder; its lock must be held."""
    with suppress(OSError):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def tidy(attempts: Path, before: float) -> None:
    """What a guard that was killed wanted to say is removed, and what is older than ``before`` (Unix time) altogether.

    Until then the folder stays: it shows that the attempt began (``fleet.local.attempts``).
    """
    for folder in list(attempts.iterdir()) if attempts.is_dir() else ():
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            # Shared, so that nobody takes us for a live guard; one that starts just now tries again.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            for file in list(folder.iterdir()):
                if file.name != "lock":
                    file.unlink()
            if os.fstat(lock).st_mtime < before:
                leave(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def holder(folder: Path) -> int | None:
    """The pid of the live guard of this attempt; None when there is none."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(lock, 32, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(lock)
    return None


def _born(pid: int) -> str:
    """When a process began, which tells it from a later one with the same pid; empty when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
