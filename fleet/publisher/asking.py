"""What a ticket asks of people, in its status comment: the ways to answer, ready to be copied. Pure."""

from __future__ import annotations

from fleet.core.states import Reason, State
from fleet.core.view import TicketView


def ask_lines(view: TicketView) -> list[str]:
    """Empty for a ticket that asks nothing that can be answered here."""
    if view.state is not State.PARKED:
        return []
    if view.reason is Reason.BUDGET:
        usd = f"{view.ticket.limits.usd:g}"
        return [
            f"**It asks for money.** Allow more, for example ${usd}, with a comment `/fleet approve ${usd}`"
            f" or with `fleet approve {view.id} --usd {usd}`; end it with `/fleet cancel`.",
            "",
        ]
    if view.reason is Reason.APPROVAL and view.head:
        return [
            f"**Policy asks about this commit.** Allow it with a comment `/fleet approve {view.head[:12]}`"
            f" or with `fleet approve {view.id}`; end it with `/fleet cancel`.",
            "",
        ]
    return []
