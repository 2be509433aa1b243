"""When the issue of a ticket should say something new, and how soon after it said something last."""

from __future__ import annotations

from fleet.core.effects import Effect, EffectKind
from fleet.core.events import SlotAsked, StateChanged
from fleet.core.sealing import spent_steps
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from supervisor.decide import Order

# After these moves people who look at the issue should read something new, and a lost ledger needs it.
TOLD = frozenset(
    {
        State.RUNNING,
        State.BACKING_OFF,
        State.PARKED,
        State.REJECTED,
        State.ESCALATED,
        State.CANCELLED,
        State.MERGED,
        State.CLOSED,
    }
)
# A person's word brought it back to the queue: the label "parked" or "failed" is no longer true.
_ASKED = frozenset({Reason.RETRY_ASKED, Reason.RESUMED})
# A person waits for the answer (``fleet.local.word``), and people are slow: it need not keep its distance.
_AT_ONCE = _ASKED | {Reason.PAUSED, Reason.CANCELLED_BY_PERSON}


def to_be_told(view: TicketView, event: object) -> bool:
    """Whether the issue should say something new after ``event`` led to ``view``.

    Acceptance is answered, too: people must see that they were heard, and from the label and the comment
    the ticket is found again when the ledger is lost.
    """
    if isinstance(event, StateChanged) and event.reason is Reason.RECOVERED and view.recovered is not None:
        return not view.recovered.shown
    if isinstance(event, StateChanged):
        return view.state in TOLD or view.reason in _ASKED or event.reason is Reason.RECOVERED
    return isinstance(event, SlotAsked) and (event.attempt == 1 or view.reason is Reason.RECOVERED)


def spent_more(before: TicketView | None, view: TicketView) -> bool:
    """Whether so much was spent that the sealed comment no longer covers it (``fleet.core.sealing``)."""
    if before is None or view.state is not State.RUNNING:
        return False
    return spent_steps(view.ticket, view.cost) > spent_steps(before.ticket, before.cost)


def raised(before: TicketView | None, view: TicketView) -> bool:
    """Whether a person allowed more money: a lost ledger must not ask for it again."""
    return before is not None and view.raised_usd > before.raised_usd


def at_once(event: object) -> bool:
    """Whether a person's word led to ``event``, so that the comment follows it without a pause."""
    return isinstance(event, StateChanged) and event.reason in _AT_ONCE


def status(view: TicketView) -> Order:
    """Bring the issue's status comment up to ``view``; ordered by the shard after a move into ``TOLD``."""
    return Order(Effect(EffectKind.STATUS, view.id, view.attempt, view.version))


class Spacing:
    """Keeps two edits of one comment apart; what is said in between is said by the later one.

    Not stored: a new owner may be early once.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def due(self, view: TicketView, every: float, wall: float) -> float:
        """When (wall time) the next edit may be made; it is counted as made."""
        last = self._due.get(view.id)
        if last is None:
            due = wall
        elif last > wall:  # one still waits; this one takes its place. The wall clock may have jumped back
            due = min(last, wall + every)
        else:
            due = max(wall, last + every)
        if view.state.terminal:
            self._due.pop(view.id, None)
        else:
            self._due[view.id] = due
        return due
