"""How a command accepts a ticket: the forge hears of it first, then the ledger, then the person (I1).

So whatever was promised is at the forge, too, and a ledger that is lost a moment later is rebuilt with it. In this
order there is one writer of the comment: before the ledger knows the ticket, no publisher works for it.
"""

from __future__ import annotations

from fleet.adapters.acl import Role
from fleet.adapters.forge_issue import add_label, post_comment
from fleet.adapters.spend_journal import SpendJournal
from fleet.core import labels
from fleet.core.forge import ForgeClient, Issue
from fleet.core.sealing import marker, seal, sealed
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from fleet.intake.decide import Request
from fleet.intake.service import Accepted, IntakeService, ledger_name
from fleet.local.attempts import highest_begun
from fleet.local.client import Client
from fleet.local.wiring import BOT
from fleet.publisher import texts

# The labels of an issue that a command opens. The state label, by which it is found when the ledger is lost, follows
# its comment: whoever looks for lost tickets at that moment would take a state without one for tampered.
OPENED = ("fleet",)


def accept_opened(client: Client, request: Request) -> Accepted:
    """For an issue that this command opened at the local forge with the labels ``OPENED``."""
    wiring = client.wiring

    def answer(ticket: Ticket) -> None:
        base = f"{wiring.forge_url}/api/v3"
        text = _comment(client, ticket, BOT)
        where = (base, wiring.tokens()["write"], wiring.clock, ticket.repo, ticket.number)
        post_comment(*where, text)
        add_label(*where, labels.QUEUED)

    return IntakeService(wiring.ledger(Role.INTAKE), wiring.clock, promised=answer).accept(request)


def accept_found(client: Client, forge: ForgeClient, issue: Issue, request: Request) -> Accepted:
    """For an issue that was there before, and may be a ticket that a lost ledger knew: then it is that one still, with
    everything that it had used up (I2, I8). ``forge`` may write.
    """
    from fleet.intake.recovery import Recovery  # noqa: PLC0415 - the library for logs; most commands need none

    wiring, ledger = client.wiring, client.wiring.ledger(Role.INTAKE)

    def answer(ticket: Ticket) -> None:
        text = _comment(client, ticket, forge.login(ticket.repo))
        forge.put_comment(ticket.repo, ticket.number, marker(ticket.id), text)
        forge.swap_labels(ticket.repo, ticket.number, *labels.swap(State.QUEUED, ticket.label))

    recovery = Recovery(
        ledger,
        forge,
        wiring.clock,
        wiring.home.state_key(wiring.ids),
        lambda: (),
        lambda repo: request.agent,
        lambda repo, branch: request.limits,
        lambda ticket: highest_begun(wiring.layout, ticket),
        lambda ticket: SpendJournal(wiring.layout.spend).lost(ledger_name(ledger)).ticket(ticket),
    )
    return recovery.accept(IntakeService(ledger, wiring.clock, promised=answer), request, issue)


def _comment(client: Client, ticket: Ticket, author: str) -> str:
    wiring = client.wiring
    view = TicketView(ticket, State.QUEUED, Reason.ACCEPTED, since=ticket.accepted_at, version=1)
    incarnation = ledger_name(wiring.ledger(Role.INTAKE))
    state = sealed(view, incarnation=incarnation, author=author, at=wiring.clock.now())
    return texts.status_comment(view, seal(state, wiring.home.state_key(wiring.ids)))
