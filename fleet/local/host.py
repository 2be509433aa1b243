"""The host: one detached process per home that keeps the services running.

It preloads their code once and forks them, so that eight processes cost little more memory than one, and the first
command of the day does not wait for eight interpreters. A service that dies is started again with a growing pause.
The ledger's server and live attempts outlive the host on purpose: the next host finds both again.
"""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.adapters.fork import die_with, fork, name_process, reap
from fleet.core.errors import FleetError
from fleet.core.ports import Clock

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
HEALTHY_AFTER = 60.0
# A worker drains for 15 s (``celery_app.SOFT_TIMEOUT``), then hands back what is left.
GRACE = 25.0
LOOK_EVERY = 5.0
_LOOK_AGAIN = 0.05
MOST_LOG = 20 * 2**20


class Attempts(Protocol):
    """Live attempts of this machine. ``hand_back`` asks each, once, and answers whether one still lives."""

    def hand_back(self) -> bool: ...

    def kill(self) -> None: ...


@dataclass(slots=True)
class Running:
    """One service's process. ``pause``: seconds before it may be started again after it died."""

    name: str
    start: Callable[[], None]
    pid: int = 0
    started: float = 0.0
    pause: float = FIRST_PAUSE
    again_at: float = 0.0
    restarts: int = 0


class Host:
    """``services``: name → function that runs it until SIGTERM. ``idle``: whether nobody needs the fleet now.

    ``changed`` is told the pids (0: waits to be started again) after every start and every death. ``tend`` is called
    about every five seconds and after every death: it brings the store back when it died. ``attempts`` are those of
    this machine, which go with the host.
    """

    def __init__(
        self,
        services: Mapping[str, Callable[[], None]],
        logs: Path,
        clock: Clock,
        idle: Callable[[], bool],
        idle_seconds: float,
        changed: Callable[[Mapping[str, int]], None],
        tend: Callable[[], None],
        attempts: Attempts | None = None,
    ) -> None:
        self._services = [Running(name, start) for name, start in services.items()]
        self._logs = logs
        self._clock = clock
        self._idle = idle
        self._idle_seconds = idle_seconds
        self._changed = changed
        self._tend = tend
        self._attempts = attempts

    def run(self) -> str:
        """Serves until SIGTERM or until nobody needed it for ``idle_seconds``; answers why it ended."""
        watched = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        busy_at = self._clock.monotonic()
        why = ""
        while not why:
            self._start_missing()
            received = signal.sigtimedwait(watched, self._patience())
            if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                why = "asked to stop"
            self._bury(reap())
            if not why:
                self._tend()
            if not self._idle():
                busy_at = self._clock.monotonic()
            elif self._clock.monotonic() - busy_at >= self._idle_seconds:
                why = "nobody needed it"
        self._stop_all()
        return why

    def _patience(self) -> float:
        now = self._clock.monotonic()
        due = [one.again_at - now for one in self._services if not one.pid]
        return max(0.01, min([LOOK_EVERY, *due]))

    def _start_missing(self) -> None:
        now = self._clock.monotonic()
        for one in self._services:
            if not one.pid and one.again_at <= now:
                one.pid = self._fork(one)
                one.started = now
                self._tell()

    def _fork(self, one: Running) -> int:
        parent = os.getpid()

        def child() -> None:
            os.setsid()
            die_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            redirect(self._logs / f"{one.name}.log")
            name_process(f"fleet-{one.name}")
            try:
                one.start()
            except FleetError as error:
                print(f"{one.name}: {error}", file=sys.stderr, flush=True)
                os._exit(error.exit_code)

        return fork(child)

    def _bury(self, dead: tuple[int, ...]) -> None:
        now = self._clock.monotonic()
        for one in self._services:
            if one.pid in dead:
                lived = now - one.started
                one.pause = FIRST_PAUSE if lived > HEALTHY_AFTER else min(one.pause * 2, LONGEST_PAUSE)
                one.again_at = now + one.pause
                one.restarts += 1
                note(f"{one.name} ended after {lived:.1f} s; again in {one.pause:.1f} s")
                one.pid = 0
                self._tell()

    def _tell(self) -> None:
        try:
            self._changed({one.name: one.pid for one in self._services})
        except OSError as error:  # a full disk must not end what keeps the services running
            note(f"the services' pids cannot be written down: {error}")

    def _stop_all(self) -> None:
        """SIGTERM to all, SIGKILL to those that outlast the grace or when a second signal comes.

        Services drain by themselves, and live attempts hand back: the services go first, so that nothing new begins.
        """
        note("draining")
        for one in self._services:
            self._signal(one, signal.SIGTERM)
        deadline = self._clock.monotonic() + GRACE
        while self._left() and self._clock.monotonic() < deadline:
            if signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, _LOOK_AGAIN) is not None:
                note("asked again: everything is killed")
                break
        for one in self._services:
            self._signal(one, signal.SIGKILL)
        if self._attempts is not None:
            self._attempts.kill()

    def _left(self) -> bool:
        """Whether a service or an attempt still lives; attempts are asked to hand back when they are first seen."""
        gone = reap()
        for one in self._services:
            one.pid = 0 if one.pid in gone else one.pid
        attempts = self._attempts is not None and self._attempts.hand_back()
        return attempts or any(one.pid for one in self._services)

    def _signal(self, one: Running, number: signal.Signals) -> None:
        if one.pid:
            with suppress(ProcessLookupError):
                os.kill(one.pid, number)


def note(text: str) -> None:
    """One line for the host's log; a log that cannot be written stops nothing."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def redirect(log: Path) -> None:
    """Standard output and error into ``log`` (appended, 0600), standard input from nowhere."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    os.close(null)


def bound_logs(folder: Path, most: int = MOST_LOG) -> None:
    """Every log that passed ``most`` bytes moves aside (one older part is kept), while its writers go on.

    They all append, and hold it open by several descriptors of several processes; so it is copied and emptied, not
    renamed. A line written in between may be lost. A full disk keeps the newest part only.
    """
    for log in folder.glob("*.log"):
        with suppress(OSError):
            if log.stat().st_size <= most:
                continue
            aside = log.with_suffix(".log.1")
            try:
                aside.unlink(missing_ok=True)
                with log.open("rb") as old, os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as new:
                    shutil.copyfileobj(old, new)
            finally:
                os.truncate(log, 0)


def detach(child: Callable[[], object], log: Path) -> int:
    """Runs ``child`` in a process of its own session that nobody waits for; it outlives the caller's terminal.

    Returns its pid, so that the caller can see whether it still lives.
    """
    told, tell = os.pipe()

    def middle() -> None:
        os.setsid()

        def inner() -> None:
            redirect(log)
            os.chdir("/")
            child()

        os.write(tell, str(fork(inner)).encode())

    os.waitpid(fork(middle), 0)
    os.close(tell)
    with os.fdopen(told, "rb") as said:
        return int(said.read() or b"0")


def take_lock(path: Path) -> int | None:
    """The host's own lock, held until the process ends; None when another host has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def join(path: Path) -> int | None:
    """A share of the host's lock, held until the process ends: for services that are started one by one.

    None when a host has the lock. While anybody has a share, no host starts.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def anybody(path: Path) -> bool:
    """Whether some client holds its shared lock on ``path``."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def settle_memory() -> None:
    """What was imported so far stays shared between forks: the collector must not touch it."""
    gc.collect()
    gc.freeze()
