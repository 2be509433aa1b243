"""How an attempt speaks and listens while the ledger comes and goes: two threads beside the guard's own.

When the ledger is away nothing is lost and nothing spins: events wait in the spool, each try waits longer than the
one before (up to 5 s), and a heartbeat is sent only while it can be (I19).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from fleet.core.codec import CodecError, decode
from fleet.core.commands import Command, CommandKind
from fleet.core.events import CommandSeen, Envelope, EventData, Heartbeat, Note, Source
from fleet.core.ports import AttemptChannel, Clock
from fleet.core.ticket import Ticket
from workers.outcome import unwanted
from workers.spool import ESSENTIAL, Spool

HEARTBEAT_S = 5.0
_BATCH = 100
_FIRST_WAIT_S = 0.2
_MOST_WAIT_S = 5.0
_LISTEN_MS = 2000
_LOOK_S = 5.0


class Voice:
    """Says events in order and gap-free, repeats them on demand, and keeps the lease alive by heartbeats."""

    def __init__(self, channel: AttemptChannel, ticket: Ticket, attempt: int, spool: Spool, clock: Clock) -> None:
        self._channel = channel
        self._spool = spool
        self._clock = clock
        self._blank = Envelope(ticket.tenant, ticket.id, attempt, 0, 0.0, Heartbeat(0), Source.ATTEMPTS)
        self._changed = threading.Condition()
        self._sent = 0
        self._over = False
        self._thread = threading.Thread(target=self._speak, name="voice", daemon=True)

    def start(self) -> None:
        """Begins to send; fork before this. A second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def say(self, data: EventData) -> bool:
        """Queues an event; False when the attempt has said too much and this one does not decide anything.

        What decides always has room, and how much had none is said before it.
        """
        with self._changed:
            event = self._next(data)
            if self._spool.full(event):
                self._spool.drop()
                return False
            dropped = self._spool.dropped()
            told = Note(f"{dropped} events of this attempt had no room and were not kept.")
            decides = isinstance(data, ESSENTIAL)
            if dropped and not self._spool.append(self._next(told), decides):
                self._spool.drop(dropped)
            kept = self._spool.append(self._next(data), decides)
            if not kept:
                self._spool.drop()
            self._changed.notify_all()
            return kept

    def _next(self, data: EventData) -> Envelope:
        return replace(self._blank, seq=self._spool.last + 1, at=self._clock.now(), data=data)

    def again(self, seq: int) -> None:
        """Sends every event from number ``seq`` on once more."""
        with self._changed:
            self._sent = min(self._sent, max(0, seq - 1))
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Waits until everything was sent; False when ``seconds`` passed first or ``hush`` was called."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._sent >= self._spool.last, seconds)
            return self._sent >= self._spool.last

    def hush(self) -> None:
        """Nobody wants to hear more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _speak(self) -> None:
        wait = _FIRST_WAIT_S
        beat = self._clock.monotonic()
        while not self._over:
            due = beat - self._clock.monotonic()
            with self._changed:
                if due > 0:
                    self._changed.wait_for(lambda: self._over or self._sent < self._spool.last, due)
                batch = self._spool.read(self._sent + 1, _BATCH)
                last = self._spool.last
            quiet = self._clock.monotonic() >= beat
            pulse = [replace(self._blank, at=self._clock.now(), data=Heartbeat(last))] if quiet else []
            if not self._reach([*batch, *pulse]):
                with self._changed:
                    self._changed.wait_for(lambda: self._over, wait)
                wait = min(wait * 2, _MOST_WAIT_S)
                continue
            wait = _FIRST_WAIT_S
            if quiet:
                beat = self._clock.monotonic() + HEARTBEAT_S
            with self._changed:
                # A request to send again may have come meanwhile; it wins.
                if batch and self._sent == batch[0].seq - 1:
                    self._sent = batch[-1].seq
                self._changed.notify_all()

    def _reach(self, events: list[Envelope]) -> bool:
        """A boundary: whatever the channel raises means that the ledger is away, and the spool keeps the events."""
        if not events:
            return True
        try:
            self._channel.send(events)
        except Exception:
            return False
        return True


class Ear:
    """Hears commands, answers that they were seen, and notices when the ledger wants this attempt no more."""

    def __init__(
        self,
        channel: AttemptChannel,
        ticket: str,
        attempt: int,
        voice: Voice,
        clock: Clock,
        heard: Callable[[Command], None],
        stop: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._ticket = ticket
        self._attempt = attempt
        self._voice = voice
        self._clock = clock
        self._heard = heard
        self._stop = stop
        self._seen: set[str] = set()
        self._after = ""
        self._over = False

    def start(self) -> None:
        threading.Thread(target=self._listen, name="ear", daemon=True).start()

    def close(self) -> None:
        """Hears nothing more; its thread ends with its next look."""
        self._over = True

    def _listen(self) -> None:
        wait = _FIRST_WAIT_S
        look = self._clock.monotonic() + _LOOK_S
        while not self._over:
            try:
                entries = self._channel.commands(self._ticket, self._attempt, self._after, _LISTEN_MS)
                if self._clock.monotonic() >= look:
                    self._look()
                    look = self._clock.monotonic() + _LOOK_S
            except Exception:
                # The same boundary as Voice._reach. After an outage the first thing is to ask whether we are wanted.
                self._clock.sleep(wait)
                wait = min(wait * 2, _MOST_WAIT_S)
                look = self._clock.monotonic()
                continue
            wait = _FIRST_WAIT_S
            for cursor, raw in entries:
                self._after = cursor
                self._take(raw)

    def _look(self) -> None:
        reason = unwanted(self._channel.view(self._ticket), self._attempt)
        if reason is not None:
            self._stop(reason)

    def _take(self, raw: bytes) -> None:
        try:
            command = decode(raw, Command)
        except CodecError:
            return
        if command.id in self._seen:
            return
        self._seen.add(command.id)
        self._voice.say(CommandSeen(command.id, command.kind.value))
        if command.kind is CommandKind.RESEND:
            self._voice.again(command.seq)
        else:
            self._heard(command)
