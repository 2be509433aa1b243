"""The loop around one running command: its output, its time, its limits, its end."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from subprocess import Popen

from fleet.adapters.sandbox import procfs
from fleet.adapters.sandbox.meter import Meter
from fleet.core.errors import InternalError
from fleet.core.ports import Clock
from fleet.core.sandbox import Ending, Limits

POLL_SECONDS = 0.05
_STOP_SECONDS = 0.1
_CHUNK = 1 << 16
DEATH_SECONDS = 10.0


@dataclass(slots=True)
class Outcome:
    """What was seen. ``ending`` is None when the command ended by itself."""

    ending: Ending | None = None
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    truncated: bool = False


class Watch:
    """Follows ``process`` until its whole tree is dead.

    ``rows`` lists the tree, ``kill`` ends it and returns only when nothing of it is left.
    """

    def __init__(
        self,
        process: Popen[bytes],
        *,
        rows: Callable[[], Sequence[procfs.Row]],
        kill: Callable[[], None],
        meter: Meter,
        limits: Limits,
        clock: Clock,
        on_output: Callable[[bytes], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._process = process
        self._rows = rows
        self._kill = kill
        self._meter = meter
        self._limits = limits
        self._clock = clock
        self._on_output = on_output
        self._should_stop = should_stop
        self._outcome = Outcome()
        self._selector = selectors.DefaultSelector()

    def follow(self) -> Outcome:
        """Blocks until the end; kills the tree on every way out, an exception of ``on_output`` included."""
        ended = os.pidfd_open(self._process.pid)
        try:
            self._register()
            self._selector.register(ended, selectors.EVENT_READ, None)
            try:
                self._outcome.ending = self._until_end()
            finally:
                self._kill()
            self._selector.unregister(ended)
            self._drain()
        finally:
            self._selector.close()
            os.close(ended)
        if self._outcome.ending is None:
            self._outcome.ending = self._meter.finally_over()
        return self._outcome

    def _register(self) -> None:
        for pipe, sink in ((self._process.stdout, self._outcome.stdout), (self._process.stderr, self._outcome.stderr)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, sink)

    def _until_end(self) -> Ending | None:
        now = self._clock.monotonic()
        deadline = now + self._limits.seconds
        next_poll = now + POLL_SECONDS
        next_ask = now + _STOP_SECONDS
        while True:
            for key, _ in self._selector.select(max(0.0, min(next_poll, deadline) - now)):
                if key.data is None:
                    return None
                if not self._take(key):
                    return Ending.OUTPUT
            now = self._clock.monotonic()
            if now >= deadline:
                return Ending.TIMED_OUT
            if self._should_stop is not None and now >= next_ask:
                next_ask = now + _STOP_SECONDS
                if self._should_stop():
                    return Ending.CANCELLED
            if now >= next_poll:
                over = self._meter.check(self._rows())
                if over is not None:
                    return over
                now = self._clock.monotonic()
                next_poll = now + POLL_SECONDS

    def _take(self, key: selectors.SelectorKey) -> bool:
        """Reads one chunk; False when the cap on output is reached."""
        sink: bytearray = key.data
        try:
            chunk = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            self._selector.unregister(key.fileobj)
            return True
        room = self._limits.output_bytes - len(self._outcome.stdout) - len(self._outcome.stderr)
        sink += chunk[:room]
        if chunk[:room] and self._on_output is not None:
            self._on_output(bytes(chunk[:room]))
        if len(chunk) > room:
            self._outcome.truncated = True
            return False
        return True

    def _drain(self) -> None:
        """What the dead left in the pipes. A writer that still lives would mean that the kill failed."""
        deadline = self._clock.monotonic() + DEATH_SECONDS
        while self._selector.get_map():
            if self._clock.monotonic() > deadline:
                raise InternalError("A sandboxed process still holds its output after the kill.")
            for key, _ in self._selector.select(0.2):
                if not self._take(key):
                    self._outcome.ending = self._outcome.ending or Ending.OUTPUT
                    return
