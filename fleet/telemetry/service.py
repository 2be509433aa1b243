"""Follows the ledger and tells others: finished traces to a collector, figures to whoever asks for the page.

It only reads the ledger. Whether it runs, hangs or is killed makes no difference to any ticket; what it has not told
yet still stands in the log, so that the log is its queue.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from fleet.adapters.follow import Follower
from fleet.adapters.telemetry import log
from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, StateChanged
from fleet.core.figures import Family, FigureKind, Figures
from fleet.core.ports import Clock
from fleet.core.tracing import SpanData
from fleet.telemetry.figures import Book
from fleet.telemetry.spans import SETTLED, spans

LOOK_EVERY = 5.0
LONGEST_PAUSE = 60.0
# Collectors refuse old spans, and a first start must not tell a year's work.
OLDEST = 24 * 3600.0
MOST_WAITING = 10_000
MOST_REMEMBERED = 20_000


class Sender(Protocol):
    """Where spans go. ``send`` may block for some seconds; False: not taken, try again later."""

    def send(self, spans: Sequence[SpanData]) -> bool: ...


class Telemetry:
    """``sender`` None: no traces. ``memory``: a file that says up to where each ticket's trace was told."""

    def __init__(self, follower: Follower, clock: Clock, sender: Sender | None = None, memory: Path | None = None):
        self._follower = follower
        self._clock = clock
        self._sender = sender
        self._memory = memory
        self._lock = threading.Lock()
        self._incarnation = ""
        self._book = Book()
        self._due: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._failing = 0
        self._again_at = float("-inf")
        self._sent = Family("fleet_traces_sent", FigureKind.COUNTER, "Traces that the collector took.")
        self._failed = Family("fleet_trace_failures", FigureKind.COUNTER, "Tries that the collector did not take.")
        self._dropped = Family("fleet_traces_dropped", FigureKind.COUNTER, "Traces given up: too many, or a day old.")

    def run(self, stop: Callable[[float | None], bool]) -> None:
        """``stop(seconds)`` waits that long (None: for ever) and answers whether to end."""
        every = LOOK_EVERY if self._sender is not None else None
        while True:
            with suppress(TemporaryError):
                self.look()
                self.tell()
            if stop(every):
                break
        # What settled just now is told before the end, if the other side is there.
        if self._sender is not None and not self._failing:
            with suppress(TemporaryError):
                self.look()
                self.tell()

    def look(self) -> None:
        """Takes what is new in the ledger. Raises TemporaryError while it is away."""
        with self._lock:
            incarnation = self._follower.incarnation()
            if incarnation != self._incarnation:
                self._begin(incarnation)
            for event in self._follower.news():
                self._book.take(event)
                if self._sender is not None and isinstance(event.data, StateChanged):
                    self._watch(event, event.data)

    def figures(self) -> Figures:
        """As of now. Raises TemporaryError while the ledger is away."""
        self.look()
        now = self._clock.now()
        orders, kept = self._follower.outbox(), self._follower.quarantined()
        standing = Family("fleet_outbox_orders", FigureKind.GAUGE, "Orders that still stand, by kind.", ("kind",))
        for order in orders:
            standing.add(1, order.effect.kind.value)
        late = Family("fleet_outbox_oldest_seconds", FigureKind.GAUGE, "How long the oldest due order stands; 0: none.")
        late.add(max([0.0, *(now - order.due for order in orders)]))
        refused = Family("fleet_quarantined", FigureKind.GAUGE, "Refused entries that are kept for people to look at.")
        refused.add(kept)
        waiting = Family("fleet_traces_waiting", FigureKind.GAUGE, "Traces that are to be sent.")
        with self._lock:
            waiting.add(len(self._due))
            traces = (self._sent, self._failed, self._dropped, waiting) if self._sender is not None else ()
            return (*self._book.figures(now), standing, late, refused, *traces)

    def tell(self) -> int:
        """Sends the traces that are due; answers how many were taken. Stops at the first that is not."""
        if self._sender is None or self._clock.monotonic() < self._again_at:
            return 0
        with self._lock:
            for ticket in [one for one, at in self._due.items() if at < self._clock.now() - OLDEST]:
                self._drop(ticket)
            due = dict(self._due)
        done = 0
        for ticket, settled in due.items():
            made = spans(self._follower.log(ticket), self._incarnation)
            # After a retry by a person only what is new is told again, and the root with its new end.
            fresh = [span for span in made if span.end > self._told.get(ticket, 0.0)]
            if fresh and not self._sender.send(fresh):
                self._fail(ticket)
                break
            with self._lock:
                if self._due.get(ticket) == settled:
                    del self._due[ticket]
                self._told[ticket] = max([settled, *(span.end for span in made)])
                self._sent.add(1 if fresh else 0)
            done += 1
            self._failing = 0
        if done:
            self._remember()
        return done

    # --- inside ----------------------------------------------------------------------------------------------------
    def _begin(self, incarnation: str) -> None:
        """A ledger that was emptied or replaced has other tickets."""
        self._follower.forget()
        self._book = Book()
        self._due.clear()
        self._incarnation = incarnation
        self._told = self._recall()

    def _watch(self, event: Envelope, changed: StateChanged) -> None:
        if changed.state not in SETTLED:
            self._due.pop(event.ticket, None)
        elif event.ticket not in self._due and event.at > self._told.get(event.ticket, 0.0):
            if event.at < self._clock.now() - OLDEST:
                return
            self._due[event.ticket] = event.at
            if len(self._due) > MOST_WAITING:
                self._drop(next(iter(self._due)))

    def _drop(self, ticket: str) -> None:
        del self._due[ticket]
        self._dropped.add(1)

    def _fail(self, ticket: str) -> None:
        """The others come first next time: one that the collector cannot read must not stop them."""
        self._failing += 1
        pause = min(LONGEST_PAUSE, LOOK_EVERY * 2 ** min(self._failing - 1, 10))
        self._again_at = self._clock.monotonic() + pause
        with self._lock:
            self._failed.add(1)
            if ticket in self._due:
                self._due[ticket] = self._due.pop(ticket)
        if self._failing == 1:
            log().warning("the collector does not take spans; trying again", ticket=ticket, seconds=pause)

    def _recall(self) -> dict[str, float]:
        if self._memory is None or not self._memory.exists():
            return {}
        with suppress(OSError, ValueError):
            kept = json.loads(self._memory.read_text())
            if kept.get("incarnation") == self._incarnation:
                return {str(ticket): float(at) for ticket, at in kept["told"].items()}
        return {}

    def _remember(self) -> None:
        """Losing it only means that traces are sent twice."""
        if self._memory is None:
            return
        newest = sorted(self._told.items(), key=lambda row: row[1])[-MOST_REMEMBERED:]
        fresh = self._memory.with_name(f".{self._memory.name}.new")
        with suppress(OSError):
            fresh.touch(0o600)
            fresh.write_text(json.dumps({"incarnation": self._incarnation, "told": dict(newest)}))
            fresh.replace(self._memory)
