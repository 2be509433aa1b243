"""The label that tells on the issue how far its ticket is. Pure."""

from __future__ import annotations

from fleet.core.states import State

PREFIX = "fleet:"
QUEUED, WORKING, REVIEW, PARKED, FAILED, ESCALATED, DONE, STOPPED = (
    f"{PREFIX}{word}" for word in ("queued", "working", "review", "parked", "failed", "escalated", "done", "cancelled")
)
ALL = (QUEUED, WORKING, REVIEW, PARKED, FAILED, ESCALATED, DONE, STOPPED)

# The issue of a ticket that is still open carries one of these; so a lost one is found again.
OPEN = (QUEUED, WORKING, REVIEW, PARKED)

LABEL_OF = {
    State.QUEUED: QUEUED,
    State.STARTING: WORKING,
    State.RUNNING: WORKING,
    State.GATING: WORKING,
    State.PUBLISHING: WORKING,
    State.BACKING_OFF: WORKING,
    State.IN_REVIEW: REVIEW,
    State.PARKED: PARKED,
    State.REJECTED: FAILED,
    State.ESCALATED: ESCALATED,
    State.MERGED: DONE,
    State.CLOSED: STOPPED,
    State.CANCELLED: STOPPED,
}


def swap(state: State, trigger: str) -> tuple[str, tuple[str, ...]]:
    """(the label that belongs on the issue, those that do not). The trigger goes, too: putting it on again is a new
    ticket. ``trigger`` empty: a command started the ticket."""
    wanted = LABEL_OF[state]
    return wanted, (*((trigger,) if trigger else ()), *(name for name in ALL if name != wanted))
