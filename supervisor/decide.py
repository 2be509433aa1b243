"""What to do next with one ticket: ``decide(view, moment, policy) -> Decision | None``.

Pure: no clock, no dice, no I/O. A decision is an event that moves or marks the view, and the effects it orders.
The caller folds the event and asks again until there is nothing left to decide.
"""

from __future__ import annotations

from typing import assert_never

from fleet.core.commands import CommandKind
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import PublishProblem, SlotAsked, StateChanged, SteersTold, WithdrawOrdered
from fleet.core.retry import repeated
from fleet.core.states import PARK_REASONS, Reason, State
from fleet.core.view import TicketView
from supervisor.beginning import resumed
from supervisor.decision import Decision, Moment, Order, counted, end, order, pause_before, return_slot, tell, used_up
from supervisor.ladder import climb, stopped
from supervisor.late import hand_over, overtaken
from supervisor.policy import Policy
from supervisor.reds import RED, unchanged
from supervisor.retries import after_failure, again, wait
from supervisor.route import passed_on

# What decisions are made of is defined beside this module for its length; callers find it here, too.
__all__ = ["Decision", "Moment", "Order", "decide", "order"]

_AT_WORK = frozenset({State.STARTING, State.RUNNING})
# Nothing was wrong with the work, and what it waited for is over.
_AT_ONCE = frozenset({Reason.LOST, Reason.HANDED_BACK})


# Seconds after a cancel, or the close of a ticket with a lost publisher, at which a pull request is looked for that
# nobody told of. A publisher may stand still between its last look at the order and the opening, and die before it
# tells: whoever looks only once finds it too early.
LOOKS = (5.0, 60.0, 600.0, 3600.0)
_ANOTHER = "the ticket already has another one"


def decide(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    """The next decision, or None when the ticket waits for something outside."""
    decision = _decide(view, moment, policy)
    return None if decision is None else counted(view, decision)


def _decide(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    if view.cancel and not view.state.terminal:
        return _cancel(view)
    if view.news.pause_by and view.state.pausable:
        return _pause(view)
    match view.state:
        case State.QUEUED:
            return hand_over(view) or _queued(view)
        case State.STARTING | State.RUNNING:
            return hand_over(view) or _at_work(view, moment, policy)
        case State.GATING:
            return _gating(view, moment, policy)
        case State.PUBLISHING:
            return _publishing(view, moment, policy)
        case State.IN_REVIEW:
            return _in_review(view)
        case State.BACKING_OFF:
            return hand_over(view) or _backing_off(view, moment)
        case State.PARKED | State.REJECTED | State.ESCALATED:
            return _parked(view) or _asked_again(view)
        case State.CANCELLED | State.MERGED | State.CLOSED:
            return _unwanted_pull(view)
        case _ as never:
            assert_never(never)


def _backing_off(view: TicketView, moment: Moment) -> Decision | None:
    if view.until is not None and moment.now >= view.until:
        return Decision(StateChanged(State.QUEUED, Reason.RETRY_DUE))
    return _asked_again(view)


def _queued(view: TicketView) -> Decision | None:
    if (elsewhere := resumed(view)) is not None:
        return elsewhere
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
        known = unchanged(view, moment, policy)
        if known is not None:
            return known
        gates = Effect(EffectKind.RUN_GATES, view.id, view.attempt, view.round + 1)
        return Decision(StateChanged(State.GATING, Reason.CHANGE_READY), (Order(gates), *return_slot(view)))
    if view.watch.stopping:
        return stopped(view, moment, policy)
    if view.news.failure is not None:
        return after_failure(view, view.news.failure, moment, policy)
    if view.news.stopped:
        detail = "The attempt ended without handing anything over."
        return again(view, Reason.PROTOCOL, detail, moment, policy)
    if view.state is State.STARTING and view.news.started:
        return Decision(StateChanged(State.RUNNING, Reason.CLAIMED, attempt=view.attempt), overtaken(view))
    if view.state is State.STARTING and moment.unclaimed > policy.claim_within:
        detail = "No worker took the attempt; is one running?"
        return wait(view, Reason.NEVER_CLAIMED, detail, moment, policy)
    if moment.silent > policy.lost_after:
        return again(view, Reason.LOST, f"Nothing was heard for {moment.silent:.0f} s.", moment, policy)
    if view.state is State.RUNNING and view.watch.begun and view.steers:
        return _steer(view)
    return climb(view, moment, policy)


def _steer(view: TicketView) -> Decision:
    text = "\n".join(view.steers)
    return Decision(SteersTold(len(view.steers)), (Order(tell(view, CommandKind.STEER, text, view.version)),))


def _pause(view: TicketView) -> Decision:
    """The attempt under way ends; nothing is counted against the ticket."""
    orders: list[Order] = list(return_slot(view))
    if view.state in _AT_WORK:
        orders.append(Order(tell(view, CommandKind.CHECKPOINT, "paused")))
    return Decision(StateChanged(State.PARKED, Reason.PAUSED, f"by {view.news.pause_by}"), tuple(orders))


def _parked(view: TicketView) -> Decision | None:
    news = view.news
    if view.state is not State.PARKED:
        return None
    if news.resume_by and view.reason is Reason.PAUSED:
        return Decision(StateChanged(State.QUEUED, Reason.RESUMED, f"by {news.resume_by}"))
    if news.raised_by and view.reason is Reason.BUDGET:
        return Decision(StateChanged(State.QUEUED, Reason.APPROVED, f"by {news.raised_by}"))
    if view.reason is Reason.NEEDS_INPUT and view.steers:
        return Decision(StateChanged(State.QUEUED, Reason.RESUMED, "a person answered"))
    if news.approved and news.approved == view.head and view.reason is Reason.APPROVAL:
        # Gated once more: policy stopped everything else, and nothing of the change has run yet.
        gates = Effect(EffectKind.RUN_GATES, view.id, view.attempt, view.round + 1)
        return Decision(StateChanged(State.GATING, Reason.APPROVED, f"by {news.approved_by}"), (Order(gates),))
    return None


def _gating(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    verdict, failed = view.news.verdict, view.news.gates_failed
    if verdict is not None and verdict.passed:
        event = StateChanged(State.PUBLISHING, Reason.GATES_PASSED, verdict.summary)
        return Decision(event, (Order(order(view, EffectKind.PUBLISH)),))
    if verdict is not None and verdict.needs:
        return end(view, State.PARKED, _park_reason(verdict.needs), verdict.summary)
    if verdict is not None and not verdict.infrastructure:
        return _red(view, verdict.summary, moment, policy)
    if failed is not None and failed.park:
        return end(view, State.PARKED, _park_reason(failed.park), failed.detail)
    if failed is not None and failed.handed_back:
        return _regate(view, Reason.HANDED_BACK, failed.detail, moment, policy, policy.waits)
    if failed is not None and failed.conflict:
        return _conflict(view, failed.detail, moment, policy)
    if verdict is not None or failed is not None:
        detail = verdict.summary if verdict is not None else failed.detail if failed is not None else ""
        # What is away comes back; gates that break by themselves break again.
        most = policy.outages if failed is not None and failed.outage else policy.turns
        return _regate(view, Reason.TRANSIENT, detail, moment, policy, most)
    if moment.silent > policy.lost_after:
        return _regate(view, Reason.LOST, "The gate runner went silent.", moment, policy, policy.turns)
    return None


def _park_reason(name: str) -> Reason:
    """A name that is no reason to park still parks: a person must look, and the other tickets go on."""
    known = {reason.value: reason for reason in PARK_REASONS}
    return known.get(name, Reason.CONFIG)


def _red(view: TicketView, summary: str, moment: Moment, policy: Policy) -> Decision:
    """A command cannot learn from a red gate, so its ticket ends; a model gets the failures (≤ gate_rounds)."""
    rounds = view.failed(Reason.GATES_RED.value) + 1
    over = view.agent.startswith("command:") or rounds >= view.ticket.limits.gate_rounds
    if (onward := passed_on(view, Reason.GATES_RED, summary, moment, policy, over=over)) is not None:
        return onward
    if over:
        return end(view, State.REJECTED, _refused_by(view), summary)
    if used_up(view):
        return end(view, State.ESCALATED, Reason.ATTEMPTS_USED_UP, summary)
    return Decision(StateChanged(State.BACKING_OFF, Reason.GATES_RED, summary, moment.now))


def _refused_by(view: TicketView) -> Reason:
    """Policy, when it alone was red: the change works and is not allowed, which asks for another remedy."""
    red = {gate.kind for gate in view.gates if gate.outcome in RED}
    return Reason.POLICY if red == {"policy"} else Reason.GATES_RED


def _conflict(view: TicketView, detail: str, moment: Moment, policy: Policy) -> Decision:
    if used_up(view):
        return end(view, State.ESCALATED, Reason.ATTEMPTS_USED_UP, detail)
    return Decision(StateChanged(State.BACKING_OFF, Reason.AGENT_ERROR, detail, moment.now))


def _regate(view: TicketView, reason: Reason, detail: str, moment: Moment, policy: Policy, most: int) -> Decision:
    times = view.failed(repeated(State.GATING, reason)) + 1
    if times >= most:
        said = f"The gates could not be run {times} times. {detail}"
        if most in (policy.outages, policy.waits):
            return end(view, State.PARKED, Reason.CONFIG, said)
        return end(view, State.ESCALATED, Reason.POISON, said)
    turn = view.turn + 1
    delay = 0.0 if reason in _AT_ONCE else pause_before(policy, times, moment)
    again = order(view, EffectKind.RUN_GATES, turn=turn)
    return Decision(StateChanged(State.GATING, reason, detail, turn=turn), (Order(again, delay),))


def _publishing(view: TicketView, moment: Moment, policy: Policy) -> Decision | None:
    if view.pull_request is not None and view.pull_request.head_sha == view.head:
        return Decision(StateChanged(State.IN_REVIEW, Reason.PUBLISHED, view.pull_request.url))
    failed = view.news.publish_failed
    if failed is None:
        if moment.silent > policy.lost_after:
            return _republish(view, Reason.LOST, "The publisher went silent.", moment, policy)
        return None
    match failed.problem:
        case PublishProblem.FORGE_DOWN:
            return _republish(view, Reason.TRANSIENT, failed.detail, moment, policy, failed.retry_after)
        case PublishProblem.HANDED_BACK:
            return _republish(view, Reason.HANDED_BACK, failed.detail, moment, policy)
        case PublishProblem.FORBIDDEN:
            return end(view, State.PARKED, Reason.CONFIG, failed.detail)
        case PublishProblem.MOVED:
            return end(view, State.ESCALATED, Reason.HEAD_MOVED, failed.detail)
        case PublishProblem.NO_PASS | PublishProblem.BASE_MOVED:
            moved = failed.problem is PublishProblem.BASE_MOVED
            reason = Reason.BASE_MOVED if moved else Reason.HEAD_MOVED
            if view.failed(reason.value) >= policy.base_moves:
                return end(view, State.ESCALATED, Reason.POISON, failed.detail)
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
    turn, times = view.turn + 1, view.failed(repeated(State.PUBLISHING, reason)) + 1
    waited = {Reason.TRANSIENT: policy.outages, Reason.HANDED_BACK: policy.waits}.get(reason)
    if waited is not None and times >= waited:
        return end(view, State.PARKED, Reason.CONFIG, f"Publishing failed {times} times. {detail}")
    if reason is Reason.LOST and times >= policy.publish_turns:
        return end(view, State.ESCALATED, Reason.POISON, f"The publisher vanished {times} times. {detail}")
    delay = 0.0 if reason in _AT_ONCE else pause_before(policy, times, moment, retry_after)
    again = order(view, EffectKind.PUBLISH, turn=turn)
    return Decision(StateChanged(State.PUBLISHING, reason, detail, turn=turn), (Order(again, delay),))


def _in_review(view: TicketView) -> Decision | None:
    closed = view.news.closed
    if closed is None:
        return _unwanted_pull(view)
    state, reason = (State.MERGED, Reason.PR_MERGED) if closed.merged else (State.CLOSED, Reason.PR_CLOSED)
    late = _looks(view, _ANOTHER) if state is State.CLOSED and view.lost_publishers else ()
    return Decision(StateChanged(state, reason, f"by {closed.by}" if closed.by else ""), late)


def _asked_again(view: TicketView) -> Decision | None:
    if not view.news.retry_by:
        return None
    return Decision(StateChanged(State.QUEUED, Reason.RETRY_ASKED, f"by {view.news.retry_by}"))


def _cancel(view: TicketView) -> Decision:
    orders: list[Order] = list(return_slot(view))
    if view.state in _AT_WORK:
        orders.append(Order(tell(view, CommandKind.CANCEL, view.cancel)))
    if view.state is State.PUBLISHING:
        orders += _looks(view, view.cancel)
    event = StateChanged(State.CANCELLED, Reason.CANCELLED_BY_PERSON, view.cancel)
    return Decision(event, tuple(orders))


def _looks(view: TicketView, why: str) -> tuple[Order, ...]:
    """Closes what is found at each of ``LOOKS``; the ticket's own pull request only if the ticket was cancelled."""
    return tuple(
        Order(Effect(EffectKind.WITHDRAW, view.id, view.attempt, number, 0, why), delay=seconds)
        for number, seconds in enumerate(LOOKS)
    )


def _unwanted_pull(view: TicketView) -> Decision | None:
    """Closes the fleet's pull request of a cancelled ticket (I20: an effect already begun is compensated), and a
    second one that a publisher opened after it was given up (I4).
    """
    pull = view.pull_request.number if view.pull_request and view.state is State.CANCELLED else view.stray
    if not pull or view.withdraw == pull:
        return None
    why = view.cancel or _ANOTHER
    close = Effect(EffectKind.WITHDRAW, view.id, view.attempt, 0, pull, why)
    return Decision(WithdrawOrdered(pull), (Order(close),))
