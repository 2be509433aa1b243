"""Accepting a ticket: on disk before anybody is told yes (I1)."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.adapters.telemetry import about_ticket, log
from fleet.core.events import Envelope, Source, TicketAccepted
from fleet.core.ports import Clock, Ledger
from fleet.core.ticket import Ticket
from fleet.intake.decide import NewTicket, Request, decide


@dataclass(frozen=True, slots=True)
class Accepted:
    """``new`` False: the issue already was this open ticket. The counts are of what was taken out of its text."""

    ticket: Ticket
    new: bool
    hidden: int
    comments: int


class IntakeService:
    """The only writer of the intake stream."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def accept(self, request: Request) -> Accepted:
        """Returns only when the ticket is on disk. Raises UsageError, or TemporaryError when nothing was promised.

        Two callers at once accept the same id, which is one ticket: the second event changes nothing (I2).
        """
        now = self._clock.now()
        decision = decide(request, self._ledger.view, now)
        ticket = decision.ticket
        new = isinstance(decision, NewTicket)
        if new:
            event = Envelope(ticket.tenant, ticket.id, 0, 0, now, TicketAccepted(ticket), Source.INTAKE)
            self._ledger.send(Source.INTAKE, [event], durable=True)
            with about_ticket(ticket, 0, self._ledger.incarnation):
                log().info("accepted", issue=ticket.issue, agent=ticket.agent.partition(":")[0])
        return Accepted(ticket, new, request.text.hidden, request.text.comments)
