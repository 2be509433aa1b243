"""How a ticket begins, also one that the forge remembers after its ledger was lost. Pure.

Intake says where a recovered ticket goes (``fleet.intake.rebuild``); here it is counted and sent there.
"""

from __future__ import annotations

from fleet.core.budget import Cost
from fleet.core.events import StateChanged, TicketAccepted
from fleet.core.states import PARK_REASONS, Reason, State, check
from fleet.core.view import PullRequest, TicketView
from supervisor.decision import Decision


def begun(accepted: TicketAccepted, at: float) -> TicketView:
    """The first view of a ticket. A recovered one keeps its counters: a lost ledger resets nothing (I8)."""
    known = accepted.recovered
    reason = Reason.ACCEPTED if known is None else Reason.RECOVERED
    check(None, State.QUEUED, reason)
    view = TicketView(accepted.ticket, State.QUEUED, reason, since=at, version=1)
    if known is None:
        return view
    pull = PullRequest(known.pull_request, known.url, known.head, known.base_sha) if known.pull_request else None
    return TicketView(
        accepted.ticket,
        State.QUEUED,
        reason,
        since=at,
        version=1,
        detail=known.detail,
        attempt=known.attempts,
        hand_backs=known.hand_backs,
        head=known.head,
        base_sha=known.base_sha,
        pull_request=pull,
        failures=known.failures,
        cost=Cost(known.usd, known.tokens, 0, known.model_calls),
        heard=known.heard,
        passed_to=known.passed_to,
        tries=known.tries,
        recovered=known,
        raised_usd=known.raised_usd,
        raised_last=known.raised_last,
    )


def resumed(view: TicketView) -> Decision | None:
    """Where a ticket goes that was just recovered; None when it waits for its next attempt like any other."""
    known = view.recovered
    if known is None or view.reason is not Reason.RECOVERED or known.state is State.QUEUED:
        return None
    if known.state is State.IN_REVIEW:
        return Decision(StateChanged(State.IN_REVIEW, Reason.RECOVERED, known.url))
    reason = known.reason if known.reason in PARK_REASONS else Reason.NEEDS_INPUT
    return Decision(StateChanged(State.PARKED, reason, known.detail))
