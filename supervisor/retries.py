"""What follows from a failed attempt, by its class: each has one fixed policy, and every ladder of retries ends. Pure.

Counted (agent error, protocol, crashed, lost, stalled): one of the ticket's attempts is used up, and the same death
three times is poison. Uncounted (outage, provider limit, handed back, never claimed): nothing was wrong with the agent,
so the ticket waits with a growing pause; after ``Policy.outages`` or ``Policy.waits`` of one cause a person is asked.
"""

from __future__ import annotations

from typing import assert_never

from fleet.core.commands import CommandKind
from fleet.core.events import AttemptFailed, StateChanged
from fleet.core.retry import FailureClass, death
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from supervisor.decision import Decision, Moment, Order, end, pause_before, return_slot, tell, used_up
from supervisor.policy import Policy
from supervisor.route import passed_on

_COUNTED_AS = {
    FailureClass.CRASHED: Reason.CRASHED,
    FailureClass.AGENT_ERROR: Reason.AGENT_ERROR,
    FailureClass.PROTOCOL: Reason.PROTOCOL,
}
_WAITS_AS = {
    FailureClass.TRANSIENT: Reason.TRANSIENT,
    FailureClass.PROVIDER_LIMIT: Reason.PROVIDER_LIMIT,
    FailureClass.HANDED_BACK: Reason.HANDED_BACK,
    FailureClass.CANCELLED: Reason.HANDED_BACK,
}
_PARKED_BY = {
    FailureClass.CONFIG: Reason.CONFIG,
    FailureClass.NO_SANDBOX: Reason.NO_SANDBOX,
    FailureClass.BUDGET: Reason.BUDGET,
    FailureClass.NEEDS_INPUT: Reason.NEEDS_INPUT,
}
# What a person can do about a ticket whose attempts always die this way.
_REMEDY = {
    Reason.LOST: "Its process vanishes each time: look at this machine's memory, and at what the issue makes it run.",
    Reason.CRASHED: "Its process dies each time: look at sandbox.memory_bytes and at logs/attempts.log in the home.",
    Reason.STALLED: "The agent gets stuck each time: split the issue, or say what is missing with `fleet steer`.",
    Reason.PROTOCOL: "The agent hands nothing over each time: say with `fleet steer` what should change.",
    Reason.AGENT_ERROR: "The agent fails the same way each time: change what it names, or name another agent.",
}
# A lost or stalled attempt was already waited for, so its successor starts at once.
_WAITED_FOR = frozenset({Reason.LOST, Reason.STALLED})


def after_failure(view: TicketView, failure: AttemptFailed, moment: Moment, policy: Policy) -> Decision:
    """By class, one fixed policy each. A command does the same thing twice, so its own failures are not retried."""
    command = view.agent.startswith("command:")
    match failure.failure:
        case FailureClass.CRASHED | FailureClass.AGENT_ERROR | FailureClass.PROTOCOL:
            return again(view, _COUNTED_AS[failure.failure], failure.detail, moment, policy)
        case FailureClass.DEADLINE:
            if command:
                return _rejected(view, Reason.COMMAND_FAILED, failure.detail, moment, policy)
            return again(view, Reason.AGENT_ERROR, failure.detail, moment, policy)
        case FailureClass.COMMAND_FAILED:
            return _rejected(view, Reason.COMMAND_FAILED, failure.detail, moment, policy)
        case FailureClass.NOTHING_CHANGED:
            if not command:
                return again(view, Reason.PROTOCOL, failure.detail, moment, policy)
            return _rejected(view, Reason.NOTHING_CHANGED, failure.detail, moment, policy)
        case FailureClass.CONFIG | FailureClass.NO_SANDBOX | FailureClass.BUDGET | FailureClass.NEEDS_INPUT:
            return end(view, State.PARKED, _PARKED_BY[failure.failure], failure.detail)
        case FailureClass.TRANSIENT | FailureClass.PROVIDER_LIMIT | FailureClass.HANDED_BACK | FailureClass.CANCELLED:
            return wait(view, _WAITS_AS[failure.failure], failure.detail, moment, policy, failure.retry_after)
        case _ as never:
            assert_never(never)


def _rejected(view: TicketView, reason: Reason, detail: str, moment: Moment, policy: Policy) -> Decision:
    """A command failed: it would again. The next agent of the route may do better."""
    onward = passed_on(view, Reason.AGENT_ERROR, detail, moment, policy, return_slot(view), over=True)
    return onward or end(view, State.REJECTED, reason, detail)


def wait(
    view: TicketView,
    reason: Reason,
    detail: str,
    moment: Moment,
    policy: Policy,
    retry_after: float | None = None,
) -> Decision:
    """The same again later, and no attempt is counted: the ticket's clocks stop while it waits."""
    same = view.failed(reason.value) + 1
    most = policy.outages if reason is Reason.TRANSIENT else policy.waits
    if same >= most:
        return end(view, State.PARKED, Reason.CONFIG, f"This happened {same} times ({_words(reason)}): {detail}")
    # Somebody else goes on at once with what was handed back, but a ticket that always comes back must not spin.
    pauses = same - 1 if reason is Reason.HANDED_BACK else same
    pause = pause_before(policy, pauses, moment, retry_after) if pauses else 0.0
    return Decision(StateChanged(State.BACKING_OFF, reason, detail, moment.now + pause), return_slot(view))


def again(view: TicketView, reason: Reason, detail: str, moment: Moment, policy: Policy) -> Decision:
    """Another attempt, unless the ticket always dies the same way or its attempts are used up."""
    waited = reason in _WAITED_FOR
    # Whoever may still live is told to leave the field, and to keep what was done: a stalled one at once, a lost one
    # when nobody waits for its change any more (``supervisor.late``).
    leave = (Order(tell(view, CommandKind.CANCEL, "superseded")),) if waited else ()
    orders = (*leave, *return_slot(view))
    on = return_slot(view) if reason is Reason.LOST else orders
    deaths = view.failed(death(reason.value, detail)) + 1
    always = deaths >= policy.same_death
    if (onward := passed_on(view, reason, detail, moment, policy, on, over=always)) is not None:
        return onward
    if always:
        said = f"{deaths} attempts ended the same way ({_words(reason)}). {_REMEDY[reason]} The last one: {detail}"
        return Decision(StateChanged(State.ESCALATED, Reason.POISON, said), orders)
    if used_up(view):
        return Decision(StateChanged(State.ESCALATED, Reason.ATTEMPTS_USED_UP, detail), orders)
    pause = 0.0 if waited else pause_before(policy, view.failed(reason.value) + 1, moment)
    return Decision(StateChanged(State.BACKING_OFF, reason, detail, moment.now + pause), on)


def _words(reason: Reason) -> str:
    return reason.value.replace("_", " ")
