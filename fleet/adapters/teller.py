"""How a worker of the gates or publish queue speaks to the ledger: heartbeats while it works, and words that arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fleet.core.effects import Effect
from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, EventData, Heartbeat, Source
from fleet.core.ports import Clock, Ledger
from fleet.core.view import TicketView

BEAT_S = 5.0
TRIES = 12
LONGEST_S = 60.0


class Teller:
    """Speaks as ``source`` alone. May be shared by the threads of one process.

    It knows what this process has begun and not told the end of, so that a worker that must go can hand it back.
    """

    def __init__(self, ledger: Ledger, source: Source, clock: Clock) -> None:
        self._ledger = ledger
        self._source = source
        self._clock = clock
        self._owed: dict[str, tuple[TicketView, Effect]] = {}

    @contextmanager
    def owing(self, view: TicketView, order: Effect) -> Iterator[None]:
        """Around everything between the beginning of ``order`` and the word about its end."""
        self._owed[order.id] = (view, order)
        try:
            yield
        finally:
            self._owed.pop(order.id, None)

    def hand_back(self, word: Callable[[Effect], EventData]) -> tuple[str, ...]:
        """Tells ``word`` of every order under way, and answers their ids. The process must end right afterwards.

        A word that the ledger does not take is left unsaid: silence then means the same, only later.
        """
        handed = []
        for view, order in tuple(self._owed.values()):
            with suppress(TemporaryError):
                self._send(view, order.attempt, word(order), durable=True)
                handed.append(order.id)
        return tuple(handed)

    def tell(self, view: TicketView, attempt: int, data: EventData) -> None:
        """On disk when this returns. Raises TemporaryError after about seven minutes without a ledger."""
        self.insist(lambda: self._send(view, attempt, data, durable=True))

    def insist(self, call: Callable[[], object]) -> None:
        """Tries again while the other side is away: at most a dozen times, for about seven minutes (I19)."""
        for number in range(TRIES):
            try:
                call()
                return
            except TemporaryError as error:
                if number + 1 == TRIES:
                    raise
                self._clock.sleep(min(LONGEST_S, max(2.0**number, error.retry_after or 0.0)))

    @contextmanager
    def beating(self, view: TicketView, attempt: int, order: Effect) -> Iterator[threading.Event]:
        """Heartbeats from a thread, so that slow work is not taken for a dead worker.

        The event is set when ``order`` was withdrawn. Leave the block before the last word is told: a heartbeat after
        it would count for whatever the ticket does next.
        """
        over, withdrawn = threading.Event(), threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                try:
                    if self._ledger.outbox(order.id, order.ticket) is None:
                        withdrawn.set()
                    self._send(view, attempt, Heartbeat(0), durable=False)
                except TemporaryError:
                    continue  # the next one is due in five seconds anyway

        thread = threading.Thread(target=beat, name=f"beat-{view.id}", daemon=True)
        thread.start()
        try:
            yield withdrawn
        finally:
            over.set()
            thread.join(2 * BEAT_S)

    def _send(self, view: TicketView, attempt: int, data: EventData, durable: bool) -> None:
        event = Envelope(view.ticket.tenant, view.id, attempt, 0, self._clock.now(), data, self._source)
        self._ledger.send(self._source, [event], durable=durable)
