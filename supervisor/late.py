"""An attempt that was cut off and comes back: until its successor is claimed it may still hand over. Pure.

Silence means lost, and another attempt is ordered. The lost one may live all the same, and its change is as good as any
as long as nobody works in its place. The step that takes the change and the claim that refuses it exclude each other:
``unbegun`` names the claim that the ledger must not have seen.
"""

from __future__ import annotations

from fleet.core.commands import CommandKind
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import ChangeReady, Envelope, Heartbeat, Source, StateChanged, TurnFinished
from fleet.core.frozen import replace as frozen
from fleet.core.states import Reason, State
from fleet.core.view import Late, TicketView
from supervisor.decision import Decision, Order, return_slot, tell

_WAITS = frozenset({State.BACKING_OFF, State.QUEUED, State.STARTING})
_ON_THE_WAY = frozenset({Reason.RETRY_DUE, Reason.RETRY_ASKED, Reason.GRANTED})


def speaks(view: TicketView, event: Envelope) -> bool:
    """Whether this is the word of the lost attempt, while it may still hand over."""
    if event.source is not Source.ATTEMPTS or not view.late.attempt:
        return False
    return event.attempt == view.late.attempt and view.state in _WAITS


def next_word(view: TicketView, event: Envelope) -> bool:
    """Whether the word follows the last one without a gap."""
    return event.seq == view.late.seq + 1


def missing(view: TicketView, event: Envelope) -> bool:
    """Whether words before this one never came."""
    last = event.data.last_seq if isinstance(event.data, Heartbeat) else event.seq - 1
    return last > view.late.seq


def start_of(ticket: str, attempt: int) -> str:
    """The order whose claim makes the earlier attempt a stale one."""
    return Effect(EffectKind.START_ATTEMPT, ticket, attempt).id


def successor(view: TicketView) -> str:
    """The order to start the attempt that follows the lost one; empty while there is none."""
    return start_of(view.id, view.attempt) if view.state is State.STARTING and view.late.attempt else ""


def heard(view: TicketView, event: Envelope) -> TicketView:
    """Only what it hands over and what it spent counts; whatever else it says is for the log."""
    late = frozen(view.late, seq=event.seq)
    match event.data:
        case ChangeReady() as change:
            late = frozen(late, change=change)
        case TurnFinished(cost=cost):
            view = frozen(view, cost=view.cost + cost)
    return frozen(view, late=late, missing_from=0)


def followed(view: TicketView, moved: TicketView, changed: StateChanged) -> TicketView:
    """What a change of state means for the lost attempt: it begins to be one, waits on, hands over, or is over."""
    late = view.late
    if changed.state is State.BACKING_OFF and changed.reason is Reason.LOST:
        return frozen(moved, late=Late(view.attempt, view.seq))
    if late.change is not None and changed.reason is Reason.CHANGE_READY:
        return frozen(moved, late=Late(), attempt=late.attempt, seq=late.seq, change=late.change, asked=0)
    if late.attempt and changed.reason not in _ON_THE_WAY:
        # What it said meanwhile is not folded twice.
        return frozen(moved, late=Late(), seq=late.seq if moved.attempt == late.attempt else moved.seq)
    return moved


def hand_over(view: TicketView) -> Decision | None:
    """The change of the lost attempt goes to the gates, and nobody does its work again."""
    if view.late.change is None:
        return None
    attempt = view.late.attempt
    gates = Effect(EffectKind.RUN_GATES, view.id, attempt, view.round + 1)
    detail = f"Attempt {attempt} was cut off and is back before anybody took its place."
    event = StateChanged(State.GATING, Reason.CHANGE_READY, detail, attempt=attempt)
    return Decision(event, (Order(gates), *return_slot(view)), unbegun=successor(view))


def overtaken(view: TicketView) -> tuple[Order, ...]:
    """Its successor was claimed: whoever may still live is told to leave the field."""
    if not view.late.attempt:
        return ()
    return (Order(tell(frozen(view, attempt=view.late.attempt), CommandKind.CANCEL, "superseded")),)
