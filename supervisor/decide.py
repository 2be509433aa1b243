"""What to do next with one ticket: ``decide(view, moment, policy) -> Decision | None``.

Pure: no clock, no dice, no I/O. A decision is an event that moves or marks the view, and the effects it orders.
The caller folds the event and asks again until there is nothing left to decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from fleet.core.codec import encode
from fleet.core.commands import Command, CommandKind
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import (
    AttemptFailed,
    Nudged,
    PublishProblem,
    Rung,
    SlotAsked,
    StateChanged,
    SteersTold,
    WithdrawOrdered,
)
from fleet.core.retry import FailureClass, backoff
from fleet.core.states import PARK_REASONS, Reason, State
from fleet.core.view import TicketView
from supervisor.policy import Policy
from supervisor.stall import Quiet, next_rung

_AT_WORK = frozenset({State.STARTING, State.RUNNING})
_CAN_PAUSE = frozenset({State.QUEUED, State.STARTING, State.RUNNING, State.GATING, State.BACKING_OFF})


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
    event: StateChanged | SlotAsked | WithdrawOrdered | Nudged | SteersTold
    orders: tuple[Order, ...] = ()


def decide(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    """The next decision, or None when the ticket waits for something outside."""
    if view.cancel and not view.state.terminal:
        return _cancel(view)
    if view.news.pause_by and view.state in _CAN_PAUSE:
        return _pause(view)
    match view.state:
        case State.QUEUED:
            return _queued(view)
        case State.STARTING | State.RUNNING:
            return _at_work(view, moment, policy)
        case State.GATING:
            return _gating(view, moment, policy)
        case State.PUBLISHING:
            return _publishing(view, moment, policy)
        case State.IN_REVIEW:
            return _in_review(view)
        case State.BACKING_OFF:
            if view.until is not None and moment.now >= view.until:
                return Decision(StateChanged(State.QUEUED, Reason.RETRY_DUE))
            return _asked_again(view)
        case State.PARKED | State.REJECTED | State.ESCALATED:
            return _parked(view) or _asked_again(view)
        case State.CANCELLED | State.MERGED | State.CLOSED:
            return _unwanted_pull(view)
        case _ as never:
            assert_never(never)


def order(view: TicketView, kind: EffectKind, *, attempt: int | None = None, turn: int = 0, data: str = "") -> Effect:
    """An effect of this ticket; its id follows from the view, so deciding twice orders once."""
    round_ = view.round if kind in (EffectKind.RUN_GATES, EffectKind.PUBLISH) else 0
    return Effect(kind, view.id, view.attempt if attempt is None else attempt, round_, turn, data)


def _queued(view: TicketView) -> Decision | None:
    following = view.attempt + 1
    if view.news.granted == following:
        return Decision(
            StateChanged(State.STARTING, Reason.GRANTED, attempt=following),
            (Order(order(view, EffectKind.START_ATTEMPT, attempt=following)),),
        )
    if view.asked != following:
        return Decision(SlotAsked(following), (Order(order(view, EffectKind.ASK_SLOT, attempt=following)),))
    return None


def _at_work(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    if view.change is not None:
        gates = Effect(EffectKind.RUN_GATES, view.id, view.attempt, view.round + 1)
        return Decision(StateChanged(State.GATING, Reason.CHANGE_READY), (Order(gates), *_return_slot(view)))
    if view.news.failure is not None:
        return _failed(view, view.news.failure, moment, policy)
    if view.news.stopped:
        detail = "The attempt ended without handing anything over."
        return _again(view, Reason.PROTOCOL, detail, moment, policy)
    if view.state is State.STARTING and view.news.started:
        return Decision(StateChanged(State.RUNNING, Reason.CLAIMED, attempt=view.attempt))
    if view.state is State.STARTING and moment.unclaimed > policy.claim_within:
        detail = "No worker took the attempt; is one running?"
        until = moment.now + _wait(policy, view.hand_backs + 1, moment)
        event = StateChanged(State.BACKING_OFF, Reason.NEVER_CLAIMED, detail, until)
        return Decision(event, _return_slot(view))
    if moment.silent > policy.lost_after:
        return _again(view, Reason.LOST, f"Nothing was heard for {moment.silent:.0f} s.", moment, policy)
    if view.state is State.RUNNING and view.watch.begun and view.steers:
        return _steer(view)
    nudge = next_rung(view, moment.quiet, policy)
    return _climb(view, nudge, moment, policy) if nudge is not None else None


def _climb(view: TicketView, nudge: Nudged, moment: Moment, policy: Policy) -> Decision:
    """A step of the ladder. The last one ends the attempt; its successor knows why."""
    if nudge.rung is Rung.STOP:
        detail = f"The agent stalled ({nudge.cause}) and did not recover. {nudge.text}"
        return _again(view, Reason.STALLED, detail, moment, policy)
    kind = CommandKind.INTERRUPT if nudge.rung is Rung.INTERRUPT else CommandKind.NUDGE
    # The id must differ from that of an earlier streak, and be the same however often this is decided.
    return Decision(nudge, (Order(_tell(view, kind, nudge.text, view.version)),))


def _steer(view: TicketView) -> Decision:
    text = "\n".join(view.steers)
    return Decision(SteersTold(len(view.steers)), (Order(_tell(view, CommandKind.STEER, text, view.version)),))


def _pause(view: TicketView) -> Decision:
    """The attempt under way ends; nothing is counted against the ticket."""
    orders: list[Order] = list(_return_slot(view))
    if view.state in _AT_WORK:
        orders.append(Order(_tell(view, CommandKind.CHECKPOINT, "paused")))
    return Decision(StateChanged(State.PARKED, Reason.PAUSED, f"by {view.news.pause_by}"), tuple(orders))


def _parked(view: TicketView) -> Decision | None:
    news = view.news
    if view.state is not State.PARKED:
        return None
    if news.resume_by and view.reason is Reason.PAUSED:
        return Decision(StateChanged(State.QUEUED, Reason.RESUMED, f"by {news.resume_by}"))
    return None


def _failed(view: TicketView, failure: AttemptFailed, moment: Moment, policy: Policy) -> Decision | None:
    """By class, one fixed policy each. A command does the same thing twice, so its own failures are not retried."""
    match failure.failure:
        case FailureClass.TRANSIENT:
            return _again(view, Reason.TRANSIENT, failure.detail, moment, policy, failure.retry_after)
        case FailureClass.AGENT_ERROR:
            return _again(view, Reason.AGENT_ERROR, failure.detail, moment, policy)
        case FailureClass.PROTOCOL:
            return _again(view, Reason.PROTOCOL, failure.detail, moment, policy)
        case FailureClass.DEADLINE:
            if view.ticket.agent.startswith("command:"):
                return _end(view, State.REJECTED, Reason.COMMAND_FAILED, failure.detail)
            return _again(view, Reason.AGENT_ERROR, failure.detail, moment, policy)
        case FailureClass.COMMAND_FAILED:
            return _end(view, State.REJECTED, Reason.COMMAND_FAILED, failure.detail)
        case FailureClass.NOTHING_CHANGED:
            if not view.ticket.agent.startswith("command:"):
                return _again(view, Reason.PROTOCOL, failure.detail, moment, policy)
            return _end(view, State.REJECTED, Reason.NOTHING_CHANGED, failure.detail)
        case FailureClass.CONFIG | FailureClass.NO_SANDBOX | FailureClass.BUDGET:
            return _end(view, State.PARKED, _PARKED_BY[failure.failure], failure.detail)
        case FailureClass.HANDED_BACK | FailureClass.CANCELLED | FailureClass.PROVIDER_LIMIT:
            return _uncounted(view, failure, moment, policy)
        case _ as never:
            assert_never(never)


_PARKED_BY = {
    FailureClass.CONFIG: Reason.CONFIG,
    FailureClass.NO_SANDBOX: Reason.NO_SANDBOX,
    FailureClass.BUDGET: Reason.BUDGET,
}


def _uncounted(view: TicketView, failure: AttemptFailed, moment: Moment, policy: Policy) -> Decision:
    """Nothing was wrong with the agent, so no attempt is counted; the ticket's clocks stop while it waits.

    Somebody else goes on at once with what was handed back, but a ticket that comes back again and again must not spin.
    """
    limited = failure.failure is FailureClass.PROVIDER_LIMIT
    wait = _wait(policy, view.hand_backs + limited, moment, failure.retry_after) if view.hand_backs or limited else 0.0
    reason = Reason.PROVIDER_LIMIT if limited else Reason.HANDED_BACK
    event = StateChanged(State.BACKING_OFF, reason, failure.detail, moment.now + wait)
    return Decision(event, _return_slot(view))


def _again(
    view: TicketView,
    reason: Reason,
    detail: str,
    moment: Moment,
    policy: Policy,
    retry_after: float | None = None,
) -> Decision:
    """Another attempt after a backoff, unless the attempts are used up or the ticket always dies the same way."""
    same = view.failed(reason.value) + 1
    if same >= policy.same_death and reason in (Reason.LOST, Reason.PROTOCOL):
        return _end(view, State.ESCALATED, Reason.POISON, f"{same} attempts ended the same way. {detail}")
    if view.attempt - view.hand_backs >= view.ticket.limits.attempts:
        return _end(view, State.ESCALATED, Reason.ATTEMPTS_USED_UP, detail)
    # A lost or stalled attempt was already waited for: its successor starts at once.
    wait = 0.0 if reason in (Reason.LOST, Reason.STALLED) else _wait(policy, same, moment, retry_after)
    event = StateChanged(State.BACKING_OFF, reason, detail, moment.now + wait)
    ended = reason in (Reason.LOST, Reason.STALLED)
    stop = (Order(_tell(view, CommandKind.CANCEL, "superseded")),) if ended else ()
    return Decision(event, (*stop, *_return_slot(view)))


def _gating(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    verdict, failed = view.news.verdict, view.news.gates_failed
    if verdict is not None and verdict.passed:
        event = StateChanged(State.PUBLISHING, Reason.GATES_PASSED, verdict.summary)
        return Decision(event, (Order(order(view, EffectKind.PUBLISH)),))
    if verdict is not None and verdict.needs:
        return _end(view, State.PARKED, _park_reason(verdict.needs), verdict.summary)
    if verdict is not None and not verdict.infrastructure:
        return _red(view, verdict.summary, moment, policy)
    if failed is not None and failed.park:
        return _end(view, State.PARKED, _park_reason(failed.park), failed.detail)
    if failed is not None and failed.conflict:
        return _conflict(view, failed.detail, moment, policy)
    if verdict is not None or failed is not None:
        detail = verdict.summary if verdict is not None else failed.detail if failed is not None else ""
        return _regate(view, Reason.TRANSIENT, detail, moment, policy)
    if moment.silent > policy.lost_after:
        return _regate(view, Reason.LOST, "The gate runner went silent.", moment, policy)
    return None


def _park_reason(name: str) -> Reason:
    """A name that is no reason to park still parks: a person must look, and the other tickets go on."""
    known = {reason.value: reason for reason in PARK_REASONS}
    return known.get(name, Reason.CONFIG)


def _red(view: TicketView, summary: str, moment: Moment, policy: Policy) -> Decision:
    """A command cannot learn from a red gate, so its ticket ends; a model gets the failures (≤ gate_rounds)."""
    rounds = view.failed(Reason.GATES_RED.value) + 1
    if view.ticket.agent.startswith("command:") or rounds >= view.ticket.limits.gate_rounds:
        return _end(view, State.REJECTED, Reason.GATES_RED, summary)
    if view.attempt - view.hand_backs >= view.ticket.limits.attempts:
        return _end(view, State.ESCALATED, Reason.ATTEMPTS_USED_UP, summary)
    return Decision(StateChanged(State.BACKING_OFF, Reason.GATES_RED, summary, moment.now))


def _conflict(view: TicketView, detail: str, moment: Moment, policy: Policy) -> Decision:
    if view.attempt - view.hand_backs >= view.ticket.limits.attempts:
        return _end(view, State.ESCALATED, Reason.ATTEMPTS_USED_UP, detail)
    return Decision(StateChanged(State.BACKING_OFF, Reason.AGENT_ERROR, detail, moment.now))


def _regate(view: TicketView, reason: Reason, detail: str, moment: Moment, policy: Policy) -> Decision:
    if view.turn + 1 >= policy.turns:
        return _end(view, State.ESCALATED, Reason.POISON, f"The gates could not be run {policy.turns} times. {detail}")
    turn = view.turn + 1
    delay = 0.0 if reason is Reason.LOST else _wait(policy, turn, moment)
    again = order(view, EffectKind.RUN_GATES, turn=turn)
    return Decision(StateChanged(State.GATING, reason, detail, turn=turn), (Order(again, delay),))


def _publishing(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    if view.pull_request is not None and view.pull_request.head_sha == view.head:
        event = StateChanged(State.IN_REVIEW, Reason.PUBLISHED, view.pull_request.url)
        return Decision(event, (Order(order(view, EffectKind.NOTE_PR, data="open")),))
    failed = view.news.publish_failed
    if failed is None:
        if moment.silent > policy.lost_after:
            return _republish(view, Reason.LOST, "The publisher went silent.", moment, policy)
        return None
    match failed.problem:
        case PublishProblem.FORGE_DOWN:
            return _republish(view, Reason.TRANSIENT, failed.detail, moment, policy, failed.retry_after)
        case PublishProblem.FORBIDDEN:
            return _end(view, State.PARKED, Reason.CONFIG, failed.detail)
        case PublishProblem.MOVED:
            return _end(view, State.ESCALATED, Reason.HEAD_MOVED, failed.detail)
        case PublishProblem.NO_PASS | PublishProblem.BASE_MOVED:
            moved = failed.problem is PublishProblem.BASE_MOVED
            reason = Reason.BASE_MOVED if moved else Reason.HEAD_MOVED
            if view.failed(reason.value) >= policy.base_moves:
                return _end(view, State.ESCALATED, Reason.POISON, failed.detail)
            gates = Effect(EffectKind.RUN_GATES, view.id, view.attempt, view.round + 1)
            return Decision(StateChanged(State.GATING, reason, failed.detail), (Order(gates),))
        case _ as never:
            assert_never(never)


def _republish(
    view: TicketView,
    reason: Reason,
    detail: str,
    moment: Moment,
    policy: Policy,
    retry_after: float | None = None,
) -> Decision:
    turn = view.turn + 1
    if turn >= policy.publish_turns:
        return _end(view, State.ESCALATED, Reason.POISON, f"Publishing failed {turn} times. {detail}")
    delay = 0.0 if reason is Reason.LOST else _wait(policy, turn, moment, retry_after)
    again = order(view, EffectKind.PUBLISH, turn=turn)
    return Decision(StateChanged(State.PUBLISHING, reason, detail, turn=turn), (Order(again, delay),))


def _in_review(view: TicketView) -> Decision | None:
    closed = view.news.closed
    if closed is None:
        return _unwanted_pull(view)
    state, reason = (State.MERGED, Reason.PR_MERGED) if closed.merged else (State.CLOSED, Reason.PR_CLOSED)
    note = order(view, EffectKind.NOTE_PR, turn=1, data="closed")
    return Decision(StateChanged(state, reason, f"by {closed.by}" if closed.by else ""), (Order(note),))


def _asked_again(view: TicketView) -> Decision | None:
    if not view.news.retry_by:
        return None
    return Decision(StateChanged(State.QUEUED, Reason.RETRY_ASKED, f"by {view.news.retry_by}"))


def _cancel(view: TicketView) -> Decision:
    orders: list[Order] = list(_return_slot(view))
    if view.state in _AT_WORK:
        orders.append(Order(_tell(view, CommandKind.CANCEL, view.cancel)))
    if view.pull_request is not None:
        orders.append(Order(order(view, EffectKind.NOTE_PR, turn=1, data="closed")))
    if view.state is State.PUBLISHING:
        orders.append(Order(Effect(EffectKind.WITHDRAW, view.id, view.attempt, 0, 0, view.cancel), delay=5.0))
    event = StateChanged(State.CANCELLED, Reason.CANCELLED_BY_PERSON, view.cancel)
    return Decision(event, tuple(orders))


def _unwanted_pull(view: TicketView) -> Decision | None:
    """Closes the fleet's pull request of a cancelled ticket (I20: an effect already begun is compensated), and a
    second one that a publisher opened after it was given up (I4).
    """
    pull = view.pull_request.number if view.pull_request and view.state is State.CANCELLED else view.stray
    if not pull or view.withdraw == pull:
        return None
    why = view.cancel or "the ticket already has another one"
    close = Effect(EffectKind.WITHDRAW, view.id, view.attempt, 0, pull, why)
    return Decision(WithdrawOrdered(pull), (Order(close),))


def _end(view: TicketView, state: State, reason: Reason, detail: str) -> Decision:
    return Decision(StateChanged(state, reason, detail), _return_slot(view))


# After these moves people who look at the issue should read something new.
TOLD = frozenset(
    {State.RUNNING, State.PARKED, State.REJECTED, State.ESCALATED, State.CANCELLED, State.MERGED, State.CLOSED}
)


def status(view: TicketView) -> Order:
    """Bring the issue's status comment up to ``view``; ordered by the shard after a move into ``TOLD``."""
    return Order(Effect(EffectKind.STATUS, view.id, view.attempt, view.version))


def _return_slot(view: TicketView) -> tuple[Order, ...]:
    if not view.slot and view.state is not State.QUEUED:
        return ()
    attempt = view.slot or view.asked
    return (Order(order(view, EffectKind.RETURN_SLOT, attempt=attempt)),) if attempt else ()


def _tell(view: TicketView, kind: CommandKind, text: str, number: int = 0) -> Effect:
    """``number`` tells commands of one kind apart."""
    command = Command(f"{view.id}:{view.attempt}:{kind.value}:{number}", kind, text[:2000])
    return order(view, EffectKind.TELL, turn=number, data=encode(command).decode())


def _wait(policy: Policy, failures: int, moment: Moment, retry_after: float | None = None) -> float:
    return backoff(failures, moment.jitter, retry_after, policy.backoff_first, policy.backoff_most)
