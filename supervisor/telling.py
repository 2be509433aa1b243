"""When the issue of a ticket should say something new. Pure."""

from __future__ import annotations

from fleet.core.effects import Effect, EffectKind
from fleet.core.events import SlotAsked, StateChanged
from fleet.core.states import State
from fleet.core.view import TicketView
from supervisor.decide import Order

# After these moves people who look at the issue should read something new.
TOLD = frozenset(
    {State.RUNNING, State.PARKED, State.REJECTED, State.ESCALATED, State.CANCELLED, State.MERGED, State.CLOSED}
)


def to_be_told(view: TicketView, event: object) -> bool:
    """Whether the issue should say something new after ``event`` led to ``view``.

    A label that started a ticket is answered at acceptance: people must see that they were heard.
    """
    if isinstance(event, StateChanged):
        return view.state in TOLD
    return isinstance(event, SlotAsked) and event.attempt == 1 and bool(view.ticket.label)


def status(view: TicketView) -> Order:
    """Bring the issue's status comment up to ``view``; ordered by the shard after a move into ``TOLD``."""
    return Order(Effect(EffectKind.STATUS, view.id, view.attempt, view.version))
