"""What a ticket asks of people, in its status comment: the ways to answer, ready to be copied. Pure."""

from __future__ import annotations

from fleet.core.states import Reason, State
from fleet.core.view import TicketView


def ask_lines(view: TicketView) -> list[str]:
    """Empty for a ticket that asks nothing that can be answered here."""
    if view.state is not State.PARKED or view.reason is not Reason.BUDGET:
        return []
    usd = f"{view.ticket.limits.usd:g}"
    return [
        f"**It asks for money.** Allow more, for example ${usd}, with `fleet approve {view.id} --usd {usd}`,"
        f" or end it with `fleet cancel {view.id}`.",
        "",
    ]
