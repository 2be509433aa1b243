"""The life of a ticket: every state, every reason, and the one table of transitions.

Nothing else in the fleet knows which state may follow which: ``check`` is the only judge, and the diagram in
``docs/states.md`` is generated from ``TRANSITIONS`` (``python -m fleet.core.states`` prints it).
"""

from __future__ import annotations

from enum import Enum

from fleet.core.errors import InternalError


class State(Enum):
    """Where a ticket stands. Terminal states are re-triggerable at once as a new generation."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    GATING = "gating"
    PUBLISHING = "publishing"
    IN_REVIEW = "in_review"
    BACKING_OFF = "backing_off"
    PARKED = "parked"
    MERGED = "merged"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    ESCALATED = "escalated"

    __hash__ = object.__hash__  # by identity: members are single objects, and hashing names is slow

    @property
    def terminal(self) -> bool:
        return self in TERMINAL

    @property
    def active(self) -> bool:
        """Whether the fleet itself works on the ticket or will without anybody's help."""
        return not self.terminal and self not in (State.PARKED, State.IN_REVIEW)

    @property
    def pausable(self) -> bool:
        """Whether a person may pause it. What is being published is not stopped halfway: a moment later it rests."""
        return self.active and self is not State.PUBLISHING


TERMINAL = frozenset({State.MERGED, State.CLOSED, State.CANCELLED, State.REJECTED, State.ESCALATED})


class Reason(Enum):
    """Why the ticket is where it is; each stands in one kind of transition, so `fleet show` can say *why*."""

    ACCEPTED = "accepted"
    RECOVERED = "recovered"
    GRANTED = "granted"
    CLAIMED = "claimed"
    CHANGE_READY = "change_ready"
    GATES_PASSED = "gates_passed"
    PUBLISHED = "published"
    GATES_RED = "gates_red"
    BASE_MOVED = "base_moved"
    HEAD_MOVED = "head_moved"
    RETRY_DUE = "retry_due"
    RETRY_ASKED = "retry_asked"
    RESUMED = "resumed"
    APPROVED = "approved"
    LOST = "lost"
    STALLED = "stalled"
    PROVIDER_LIMIT = "provider_limit"
    NEVER_CLAIMED = "never_claimed"
    TRANSIENT = "transient"
    CRASHED = "crashed"
    AGENT_ERROR = "agent_error"
    PROTOCOL = "protocol_violation"
    HANDED_BACK = "handed_back"
    NO_SANDBOX = "no_sandbox"
    NO_GATES = "no_gates"
    NEEDS_INPUT = "needs_input"
    APPROVAL = "approval"
    PAUSED = "paused"
    BUDGET = "budget"
    CONFIG = "config"
    CANCELLED_BY_PERSON = "cancelled_by_person"
    ATTEMPTS_USED_UP = "attempts_used_up"
    POISON = "poison"
    COMMAND_FAILED = "command_failed"
    NOTHING_CHANGED = "nothing_changed"
    POLICY = "policy"
    PR_MERGED = "pr_merged"
    PR_CLOSED = "pr_closed"


PARK_REASONS = frozenset(
    {
        Reason.NO_SANDBOX,
        Reason.NO_GATES,
        Reason.NEEDS_INPUT,
        Reason.APPROVAL,
        Reason.PAUSED,
        Reason.BUDGET,
        Reason.CONFIG,
    }
)

_RETRIES = frozenset(
    {
        Reason.LOST,
        Reason.STALLED,
        Reason.TRANSIENT,
        Reason.CRASHED,
        Reason.PROVIDER_LIMIT,
        Reason.AGENT_ERROR,
        Reason.PROTOCOL,
        Reason.HANDED_BACK,
    }
)
_REJECTS = frozenset({Reason.GATES_RED, Reason.COMMAND_FAILED, Reason.NOTHING_CHANGED, Reason.POLICY})
_ESCALATES = frozenset({Reason.ATTEMPTS_USED_UP, Reason.POISON})
_CANCEL = frozenset({Reason.CANCELLED_BY_PERSON})

TRANSITIONS: dict[State | None, dict[State, frozenset[Reason]]] = {
    None: {State.QUEUED: frozenset({Reason.ACCEPTED, Reason.RECOVERED})},
    State.QUEUED: {
        # Its pull request was found at the forge after the ledger was lost.
        State.IN_REVIEW: frozenset({Reason.RECOVERED}),
        State.STARTING: frozenset({Reason.GRANTED}),
        # A lost attempt is back before its successor was claimed; so, too, from backing_off and starting.
        State.GATING: frozenset({Reason.CHANGE_READY}),
        State.PARKED: PARK_REASONS,
        State.CANCELLED: _CANCEL,
    },
    State.STARTING: {
        State.RUNNING: frozenset({Reason.CLAIMED}),
        State.GATING: frozenset({Reason.CHANGE_READY}),
        # Gates red without gating: the same change was red before.
        State.BACKING_OFF: _RETRIES | {Reason.NEVER_CLAIMED, Reason.GATES_RED},
        State.PARKED: PARK_REASONS,
        State.REJECTED: _REJECTS,
        State.ESCALATED: _ESCALATES,
        State.CANCELLED: _CANCEL,
    },
    State.RUNNING: {
        State.GATING: frozenset({Reason.CHANGE_READY}),
        State.BACKING_OFF: _RETRIES | {Reason.GATES_RED},
        State.PARKED: PARK_REASONS,
        State.REJECTED: _REJECTS,
        State.ESCALATED: _ESCALATES,
        State.CANCELLED: _CANCEL,
    },
    State.GATING: {
        State.PUBLISHING: frozenset({Reason.GATES_PASSED}),
        State.GATING: frozenset({Reason.LOST, Reason.TRANSIENT, Reason.HANDED_BACK, Reason.BASE_MOVED}),
        State.BACKING_OFF: frozenset({Reason.GATES_RED, Reason.AGENT_ERROR}),
        State.PARKED: PARK_REASONS,
        State.REJECTED: _REJECTS,
        State.ESCALATED: _ESCALATES,
        State.CANCELLED: _CANCEL,
    },
    State.PUBLISHING: {
        State.IN_REVIEW: frozenset({Reason.PUBLISHED}),
        State.PUBLISHING: frozenset({Reason.LOST, Reason.TRANSIENT, Reason.HANDED_BACK}),
        State.GATING: frozenset({Reason.BASE_MOVED, Reason.HEAD_MOVED}),
        State.PARKED: PARK_REASONS,
        State.ESCALATED: _ESCALATES | {Reason.HEAD_MOVED},
        State.CANCELLED: _CANCEL,
    },
    State.IN_REVIEW: {
        State.MERGED: frozenset({Reason.PR_MERGED}),
        State.CLOSED: frozenset({Reason.PR_CLOSED}),
        State.CANCELLED: _CANCEL,
    },
    State.BACKING_OFF: {
        State.QUEUED: frozenset({Reason.RETRY_DUE, Reason.RETRY_ASKED}),
        State.GATING: frozenset({Reason.CHANGE_READY}),
        State.PARKED: PARK_REASONS,
        State.CANCELLED: _CANCEL,
    },
    State.PARKED: {
        State.QUEUED: frozenset({Reason.RETRY_ASKED, Reason.RESUMED, Reason.APPROVED}),
        State.GATING: frozenset({Reason.APPROVED}),
        State.CANCELLED: _CANCEL,
    },
    # A person may ask for another try of a ticket that ended without a pull request; it keeps its counters.
    State.REJECTED: {State.QUEUED: frozenset({Reason.RETRY_ASKED})},
    State.ESCALATED: {State.QUEUED: frozenset({Reason.RETRY_ASKED})},
    State.CANCELLED: {},
    State.MERGED: {},
    State.CLOSED: {},
}


def allowed(old: State | None, new: State, reason: Reason) -> bool:
    """Whether the table lists this transition. ``old`` is None for a ticket that does not exist yet."""
    return reason in TRANSITIONS.get(old, {}).get(new, frozenset())


def check(old: State | None, new: State, reason: Reason) -> None:
    """Raises InternalError for an unlisted transition: a silent no-op would hide a lost ticket."""
    if not allowed(old, new, reason):
        name = old.value if old else "(new)"
        raise InternalError(f"The transition {name} → {new.value} ({reason.value}) is not in the table.")


def mermaid() -> str:
    """The table as a Mermaid state diagram, for docs/states.md; a test compares the two."""
    lines = ["stateDiagram-v2"]
    for old, targets in TRANSITIONS.items():
        for new, reasons in targets.items():
            label = ", ".join(sorted(reason.value for reason in reasons))
            lines.append(f"    {old.value if old else '[*]'} --> {new.value}: {label}")
    lines += [f"    {state.value} --> [*]" for state in State if state.terminal]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(mermaid(), end="")
