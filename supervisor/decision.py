"""What ``decide`` answers with, and the few pieces that all of its branches build it from. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fleet.core.codec import encode
from fleet.core.commands import Command, CommandKind
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import Nudged, SlotAsked, StateChanged, SteersTold, WithdrawOrdered
from fleet.core.retry import backoff
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from supervisor.admission import PULLS
from supervisor.policy import Policy
from supervisor.stall import Quiet


@dataclass(frozen=True, slots=True)
class Moment:
    """What time it is. ``silent``: seconds on the owner's monotonic clock since the begun worker was last heard;
    ``unclaimed``: seconds since the order was given while nobody has begun it. ``jitter`` in [0, 1).
    """

    now: float
    silent: float = 0.0
    unclaimed: float = 0.0
    jitter: float = 0.5
    quiet: Quiet = field(default_factory=Quiet)


@dataclass(frozen=True, slots=True)
class Order:
    """An effect and how many seconds to wait before it is sent."""

    effect: Effect
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """``unbegun``: a start of an attempt; once somebody has claimed it the decision is void. Empty for none."""

    event: StateChanged | SlotAsked | WithdrawOrdered | Nudged | SteersTold
    orders: tuple[Order, ...] = ()
    unbegun: str = ""


def order(view: TicketView, kind: EffectKind, *, attempt: int | None = None, turn: int = 0, data: str = "") -> Effect:
    """An effect of this ticket; its id follows from the view, so deciding twice orders once."""
    round_ = view.round if kind in (EffectKind.RUN_GATES, EffectKind.PUBLISH) else 0
    return Effect(kind, view.id, view.attempt if attempt is None else attempt, round_, turn, data)


def end(view: TicketView, state: State, reason: Reason, detail: str) -> Decision:
    """The fleet does nothing more by itself; the place is given back."""
    return Decision(StateChanged(state, reason, detail), return_slot(view))


def used_up(view: TicketView) -> bool:
    """Whether the attempt that just ended was the last one the ticket may have."""
    return view.attempt - view.hand_backs >= view.ticket.limits.attempts


def return_slot(view: TicketView) -> tuple[Order, ...]:
    if not view.slot and view.state is not State.QUEUED:
        return ()
    attempt = view.slot or view.asked
    return (Order(order(view, EffectKind.RETURN_SLOT, attempt=attempt)),) if attempt else ()


def tell(view: TicketView, kind: CommandKind, text: str, number: int = 0) -> Effect:
    """``number`` tells commands of one kind apart."""
    command = Command(f"{view.id}:{view.attempt}:{kind.value}:{number}", kind, text[:2000])
    return order(view, EffectKind.TELL, turn=number, data=encode(command).decode())


def pause_before(policy: Policy, failures: int, moment: Moment, retry_after: float | None = None) -> float:
    """Seconds until the next try after the ``failures``-th failure of one cause."""
    return backoff(failures, moment.jitter, retry_after, policy.backoff_first, policy.backoff_most)


def counted(view: TicketView, decision: Decision) -> Decision:
    """``decision``, and word to admission when a pull request gets on its way by it, or will not come after all.

    The word goes out before the place is given back: in between nobody else may begin what would be one too many.
    """
    moved = decision.event
    if not isinstance(moved, StateChanged) or (view.state in PULLS) is (moved.state in PULLS):
        return decision
    coming = moved.state in PULLS
    attempt = moved.attempt or view.attempt
    note = Effect(EffectKind.NOTE_PR, view.id, attempt, turn=0 if coming else 1, data="open" if coming else "closed")
    return replace(decision, orders=(Order(note), *decision.orders))
