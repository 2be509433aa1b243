"""How a command takes a person's word about a ticket: yes is said once the forge shows it (I1).

The publisher alone writes the comment; a second writer could put an old state over a newer one. So the command says its
word to the ledger, and waits until the publisher has told of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet.core.events import Envelope, EventData, Source, StatusPosted
from fleet.core.view import TicketView
from fleet.local.client import Client

# Seconds. The comment follows a person's word at once; longer means that the forge or the publisher is away.
PATIENCE = 15.0
_LOOK_MS = 500


def promise(client: Client, view: TicketView, word: EventData, patience: float = PATIENCE) -> bool:
    """Says the word; answers whether the forge shows it. On disk in either case when this returns."""
    ledger, clock = client.ledger(), client.wiring.clock
    sealed = ledger.sealed(view.id)
    number, cursor = (sealed[-1].last, sealed[-1].cursor) if sealed else (0, "0")
    while entries := ledger.log(view.id, cursor):
        number, cursor = number + len(entries), entries[-1][0]
    client.tell(view, word)
    told = Told(word, number)
    until = clock.monotonic() + patience
    while not told.shown and clock.monotonic() < until:
        entries = ledger.log(view.id, cursor, _LOOK_MS)
        cursor = entries[-1][0] if entries else cursor
        told.hear(event for _, event in entries)
    return told.shown


class Told:
    """``number``: of the last event before the word. A log is numbered from 1, and what is posted names the number."""

    def __init__(self, word: EventData, number: int) -> None:
        self._word = word
        self._number = number
        self._at = 0
        self.shown = False

    def hear(self, events: Iterable[Envelope]) -> None:
        """What followed in the log, in order and without a gap."""
        for event in events:
            self._number += 1
            if not self._at and event.source is Source.PEOPLE and event.data == self._word:
                self._at = self._number
            elif self._at and isinstance(event.data, StatusPosted) and event.data.version >= self._at:
                self.shown = True
