"""A bug of ours that one ticket meets: that ticket is set aside with what to do, and all others go on.

Without this the owner would end, and so would the next one at the same place: one ticket would stop the fleet (I16).
"""

from __future__ import annotations

from fleet.core.states import Reason, State, allowed
from fleet.core.view import TicketView
from supervisor.decision import Decision, end

# How the words about such a ticket begin; tests and the simulation know by it that there is something to mend.
OUR_FAULT = "The fleet itself failed at this ticket"
_WHY = 300


class Trouble(Exception):
    """Deciding about ``ticket`` raised something."""

    def __init__(self, ticket: str, error: Exception) -> None:
        self.ticket = ticket
        self.why = f"{type(error).__name__}: {error}"[:_WHY]
        super().__init__(f"{ticket}: {self.why}")


def set_aside(view: TicketView, why: str) -> Decision | None:
    """Parked until a person asks for another try; None where a ticket cannot be parked: it stays as it is."""
    if not allowed(view.state, State.PARKED, Reason.CONFIG):
        return None
    remedy = "Report it with what `fleet replay` shows, and ask for another try with `fleet retry`."
    return end(view, State.PARKED, Reason.CONFIG, f"{OUR_FAULT} ({why}). {remedy}")
