"""What people say about money, and in comments. Everybody imports these from ``fleet.core.events``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class BudgetRaised:
    """A person allows the ticket ``usd`` dollars more; the limits of tenant, day and fleet hold all the same."""

    by: str
    usd: float


class Verb(Enum):
    """What a comment may order; the word after ``/fleet``. OTHER: a word that is none of these."""

    HELP = "help"
    WHY = "why"
    STEER = "steer"
    RETRY = "retry"
    CANCEL = "cancel"
    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class CommentHeard:
    """An order in a comment on the issue or its pull request, of somebody who may write to the repository.

    ``comment``: the forge's number of it; one that is not above all that were heard changes nothing. ``done`` False:
    it is only answered. ``text``: words for the agent, why it is cancelled, or the commit that is allowed. ``answer``
    stands in the status comment.
    """

    comment: int
    by: str
    verb: Verb
    done: bool
    answer: str
    text: str = ""
    usd: float = 0.0
