"""Accepting a ticket: on disk before anybody is told yes (I1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, Source, TicketAccepted
from fleet.core.past import Past
from fleet.core.ports import Clock, Ledger
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from fleet.intake.decide import NewTicket, Request, decide


@dataclass(frozen=True, slots=True)
class Accepted:
    """``new`` False: the issue already was this open ticket. The counts are of what was taken out of its text."""

    ticket: Ticket
    new: bool
    hidden: int
    comments: int


def ledger_name(ledger: Ledger) -> str:
    """The ledger's incarnation; empty while no supervisor has opened it: a command may be quicker."""
    try:
        return ledger.incarnation()
    except TemporaryError:
        return ""


class IntakeService:
    """The only writer of the intake stream. ``accepted`` is told of each new ticket, after it is on disk.

    A command has no log, and the library for logs costs it a tenth of a second: so it comes as an argument.
    ``promised`` leaves at the forge what a lost ledger is rebuilt from, before the ledger hears of the ticket. A
    labelled issue needs none: its label stays until the status comment is there.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        accepted: Callable[[Ticket], None] = lambda _: None,
        promised: Callable[[Ticket], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._accepted = accepted
        self._promised = promised

    def accept(self, request: Request, known: Callable[[str], TicketView | None] | None = None) -> Accepted:
        """Returns only when the ticket is on disk. Raises UsageError, or TemporaryError when nothing was promised.

        Two callers at once accept the same id, which is one ticket: the second event changes nothing (I2).
        ``known`` looks tickets up; by default in the ledger.
        """
        now = self._clock.now()
        decision = decide(request, known or self._known, now)
        ticket = decision.ticket
        new = isinstance(decision, NewTicket)
        if new:
            self._promised(ticket)
            event = Envelope(ticket.tenant, ticket.id, 0, 0, now, TicketAccepted(ticket), Source.INTAKE)
            self._ledger.send(Source.INTAKE, [event], durable=True)
            self._accepted(ticket)
        return Accepted(ticket, new, request.text.hidden, request.text.comments)

    def _known(self, ticket: str) -> TicketView | Past | None:
        """In this order: a ticket that is forgotten in between is found in the second place."""
        return self._ledger.view(ticket) or self._ledger.past(ticket)
