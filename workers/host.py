"""The attempt host: a warmed process that forks a guard per attempt, so that an extra one costs little.

Single-threaded. Guards outlive it; what a killed guard leaves behind is ended here, because orphans below a guard
that is gone become this process's children (I10).
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fleet.adapters import fork
from fleet.adapters.launcher import folder_of, holder, leave, sign, take, tidy
from fleet.core.errors import FleetError, UsageError
from fleet.core.ports import Clock

_MOST = 4096
_REQUEST_S = 2.0
_LOOK_S = 5.0
_TIDIED = 2
# As long as what becomes of a ticket may be asked for: an attempt that was killed leaves its folder as a trace.
_TRACE_S = 30 * 86_400.0


class AttemptHost:
    """``run_attempt(ticket, attempt)`` is called in the forked guard; ``on_gone`` here, after a guard has ended."""

    def __init__(
        self,
        attempts: Path,
        run_attempt: Callable[[str, int], None],
        clock: Clock,
        on_gone: Callable[[], object] = lambda: None,
    ) -> None:
        self._attempts = attempts
        self._run_attempt = run_attempt
        self._clock = clock
        self._on_gone = on_gone
        self._guards: set[int] = set()
        self._untidy = 0
        self._stopping = False

    def serve(self, socket_path: Path) -> None:
        """Answers requests until SIGTERM or SIGINT. Raises UsageError when another host is serving there."""
        fork.adopt_orphans()
        listener = _listen(socket_path)
        # What was loaded so far stays shared with every guard: the collector must not touch it.
        gc.collect()
        gc.freeze()
        wake_out, wake_in = socket.socketpair()
        for end in (wake_out, wake_in):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_in.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._untidy = _TIDIED
        self._tidy()
        with selectors.DefaultSelector() as events:
            events.register(listener, selectors.EVENT_READ)
            events.register(wake_out, selectors.EVENT_READ)
            while not self._stopping:
                ready = {key.fileobj for key, _ in events.select(_LOOK_S)}
                with suppress(BlockingIOError):
                    wake_out.recv(_MOST)
                self._bury()
                self._tidy()
                if listener in ready:
                    self._answer(listener)
        socket_path.unlink(missing_ok=True)

    def _stop(self, number: int, frame: object) -> None:
        """A second signal kills; guards live on either way."""
        signal.signal(number, signal.SIG_DFL)
        self._stopping = True

    def _answer(self, listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as line:
            line.settimeout(_REQUEST_S)
            try:
                asked = json.loads(line.makefile("rb").readline(_MOST))
                answer: dict[str, object] = {"pid": self._start(str(asked["ticket"]), int(asked["attempt"]))}
            except (ValueError, KeyError, TypeError, FleetError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"[:500]}
            line.sendall(json.dumps(answer).encode() + b"\n")

    def _start(self, ticket: str, attempt: int) -> int:
        """The pid of the attempt's guard, which may have been started before."""
        folder = folder_of(self._attempts, ticket, attempt)
        running = holder(folder)
        if running is not None:
            return running
        lock = take(folder, self._clock)
        if lock is None:
            return holder(folder) or 0
        try:
            pid = fork.fork(lambda: self._guard(ticket, attempt, folder, lock))
            sign(lock, pid)
        finally:
            os.close(lock)
        self._guards.add(pid)
        return pid

    def _guard(self, ticket: str, attempt: int, folder: Path, lock: int) -> None:
        """In the guard: its own session, and nothing of ours but the lock, which it holds until it ends."""
        os.setsid()
        # A listener that a guard kept open would look like a live host to the next one.
        fork.forget((lock,))
        try:
            self._run_attempt(ticket, attempt)
        finally:
            leave(folder)

    def _bury(self) -> None:
        """Takes the status of guards that ended, and ends what the killed among them left behind."""
        gone = self._guards.intersection(fork.reap())
        self._guards -= gone
        orphans = [pid for pid in fork.children(os.getpid()) if pid not in self._guards]
        for pid in orphans:
            # Whatever these leave behind comes to us next, and its death wakes us again.
            fork.kill_tree(pid)
        if gone or orphans:
            self._untidy = _TIDIED

    def _tidy(self) -> None:
        """Once at once and once at the next look: a lock may come free a moment after its holder was reaped.

        A folder that cannot be removed is tried again. It must not end the host, which every other attempt needs.
        """
        if not self._untidy:
            return
        try:
            tidy(self._attempts, self._clock.now() - _TRACE_S)
            self._on_gone()
        except OSError as error:
            print(f"attempts: what an attempt left is not removed yet: {error}", file=sys.stderr, flush=True)
        else:
            self._untidy -= 1


def serve(
    socket_path: Path,
    attempts: Path,
    run_attempt: Callable[[str, int], None],
    clock: Clock,
    on_gone: Callable[[], object] = lambda: None,
) -> None:
    """Serves until it is told to stop. ``attempts``: the layout's folder of locks."""
    AttemptHost(attempts, run_attempt, clock, on_gone).serve(socket_path)


def _listen(path: Path) -> socket.socket:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(_REQUEST_S)
        other.connect(str(path))
        raise UsageError(f"Another attempt host is serving {path}.", "Stop it first.")
    # Listening before it has its name: whoever finds the socket can connect.
    fresh = path.with_name(f".{os.getpid()}.sock")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(fresh))
    fresh.chmod(0o600)
    listener.listen(64)
    fresh.replace(path)
    return listener
