"""What the words of people, and of the supervisor to an agent, do to a view. Pure; a part of ``supervisor.fold``."""

from __future__ import annotations

from fleet.core.allowance import MOST_USD
from fleet.core.events import (
    ApprovalGiven,
    BudgetRaised,
    Envelope,
    Nudged,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    StateChanged,
    SteerRequested,
    SteersTold,
)
from fleet.core.frozen import replace
from fleet.core.states import Reason, State
from fleet.core.view import News, TicketView
from supervisor.stall import nudged

_STEERS = 20
GO_ON = "The work was stopped because its money was used up; a person has allowed more. Go on from what is there."


def people(view: TicketView, event: Envelope) -> TicketView:
    """The view after a person's word; for a decision by them the news, on which ``decide`` acts."""
    news = view.news
    match event.data:
        case RetryRequested(by=by):
            return replace(view, news=replace(news, retry_by=by))
        case SteerRequested(by=by, text=text):
            return replace(view, steers=(*view.steers, f"{by}: {text}")[-_STEERS:])
        case SteersTold(count=count):
            return replace(view, steers=view.steers[count:])
        case PauseRequested(by=by):
            return replace(view, news=replace(news, pause_by=by))
        case ResumeRequested(by=by):
            return replace(view, news=replace(news, resume_by=by))
        case ApprovalGiven(by=by, head=head):
            return replace(view, news=replace(news, approved=head, approved_by=by))
        case BudgetRaised(by=by, usd=usd):
            return _raised(view, by, usd)
        case Nudged(rung=rung, cause=cause) as nudge:
            return replace(view, watch=nudged(view.watch, nudge), activity=f"{rung.value} because of {cause}")
    return view


def _raised(view: TicketView, by: str, usd: float) -> TicketView:
    """An odd amount raises nothing: it is no number, endless, or would take back what was allowed before."""
    if not 0 < usd <= MOST_USD or view.state.terminal:
        return view
    news = replace(view.news, raised_by=by)
    return replace(view, news=news, raised_usd=view.raised_usd + usd, raised_last=usd)


def carried(news: News, changed: StateChanged) -> News:
    """What is still news in the state that follows: a word that was said before anybody asked for it."""
    if changed.state is State.IN_REVIEW:
        return News(closed=news.closed)  # a merge may be told before the publishing
    if changed.state is State.PARKED and changed.reason is Reason.BUDGET:
        # More was allowed while the attempt was at its end; it would wait for a second word.
        return News(raised_by=news.raised_by)
    return News()


def afforded(view: TicketView) -> TicketView:
    """A ticket that was parked for money goes on: nothing is counted for the stop, and its work is handed on."""
    return replace(view, hand_backs=view.hand_backs + min(1, view.attempt), repair=view.attempt, digest=GO_ON)
