"""The next agent of a ticket's route: who takes over when the one before is at its end, before a person is asked. Pure.

An agent gets ``Policy.agent_tries`` attempts that count against it, fewer when the ticket has no more attempts than
there are agents left. The attempts of all of them stay under the ticket's limit: an agent more costs no attempt more.
"""

from __future__ import annotations

from fleet.core.events import StateChanged
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from supervisor.decision import Decision, Moment, Order, used_up
from supervisor.policy import Policy

# Ends that say something against the agent. Whose process vanished or whose provider is away may be as good as any.
AGAINST = frozenset({Reason.STALLED, Reason.CRASHED, Reason.AGENT_ERROR, Reason.PROTOCOL, Reason.GATES_RED})


def passed_on(
    view: TicketView,
    reason: Reason,
    detail: str,
    moment: Moment,
    policy: Policy,
    orders: tuple[Order, ...] = (),
    *,
    over: bool = False,
) -> Decision | None:
    """The next attempt with the next agent; None when this one goes on or nobody is left. ``over``: it must not."""
    following = view.following
    if not following or used_up(view):
        return None
    if not over and not (reason in AGAINST and _had_its_tries(view, policy)):
        return None
    said = f"{detail} Next is {following[0]}, after {view.agent}."
    return Decision(StateChanged(State.BACKING_OFF, reason, said, moment.now, agent=following[0]), orders)


def _had_its_tries(view: TicketView, policy: Policy) -> bool:
    left = view.ticket.limits.attempts - (view.attempt - view.hand_backs)
    return view.tries + 1 >= policy.agent_tries or left <= len(view.following)


def forgets(cause: str) -> bool:
    """Whether a failure counted under ``cause`` says nothing about the agent that comes next."""
    return any(cause == reason.value or cause.startswith(f"{reason.value}:") for reason in AGAINST)
