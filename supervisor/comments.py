"""Orders in comments: each is heard once, whatever is told again. Pure; a part of ``supervisor.fold``."""

from __future__ import annotations

from typing import assert_never

from fleet.core.events import (
    ApprovalGiven,
    BudgetRaised,
    CancelRequested,
    CommentHeard,
    EventData,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    SteerRequested,
    Verb,
)
from fleet.core.frozen import replace
from fleet.core.view import TicketView

_ANSWERS = 5


def meant(view: TicketView, said: CommentHeard) -> EventData | None:
    """The person's word that the comment stands for; None when it was heard before, or is only answered."""
    if said.comment <= view.heard or not said.done:
        return None
    by = said.by
    match said.verb:
        case Verb.CANCEL:
            return CancelRequested(by, said.text)
        case Verb.RETRY:
            return RetryRequested(by)
        case Verb.STEER:
            return SteerRequested(by, said.text)
        case Verb.PAUSE:
            return PauseRequested(by)
        case Verb.RESUME:
            return ResumeRequested(by)
        case Verb.APPROVE:
            return ApprovalGiven(by, said.text) if said.text else BudgetRaised(by, said.usd)
        case Verb.HELP | Verb.WHY | Verb.OTHER:
            return None
        case _ as never:
            assert_never(never)


def noted(view: TicketView, said: CommentHeard) -> TicketView:
    """``view`` with the comment heard, and its answer for the status comment."""
    if said.comment <= view.heard:
        return view
    verb = "" if said.verb is Verb.OTHER else f" {said.verb.value}"
    answer = f"@{said.by} /fleet{verb}: {said.answer}"
    return replace(view, heard=said.comment, answers=(*view.answers, answer)[-_ANSWERS:])
