"""Events: what happened, in the past tense. The only thing from which a ticket's view is made (I17).

Attempt events carry a gap-free ``seq`` per attempt; those of other sources carry 0. ``KINDS`` says which source
may say what: an event on another source's stream is quarantined, never folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fleet.core.attempt_events import (
    AgentStarted,
    AttemptFailed,
    AttemptStarted,
    AttemptStopped,
    ChangeReady,
    CommandSeen,
    FilesTouched,
    Heartbeat,
    ModelAsked,
    Note,
    SignGiven,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    WorkspaceReady,
)
from fleet.core.people_events import BudgetRaised, CommentHeard, Verb
from fleet.core.recovery import Recovered
from fleet.core.supervisor_events import (
    EventsMissing,
    Nudged,
    Rung,
    SlotAsked,
    StateChanged,
    SteersTold,
    WithdrawOrdered,
)
from fleet.core.ticket import Ticket

VERSION = 1

# Defined beside this module for their number; everybody imports events from here.
__all__ = [
    "AgentStarted",
    "AttemptFailed",
    "AttemptStarted",
    "AttemptStopped",
    "BudgetRaised",
    "ChangeReady",
    "CommandSeen",
    "CommentHeard",
    "EventsMissing",
    "FilesTouched",
    "Heartbeat",
    "ModelAsked",
    "Note",
    "Nudged",
    "Rung",
    "SignGiven",
    "SlotAsked",
    "StateChanged",
    "SteersTold",
    "ToolFinished",
    "ToolStarted",
    "TurnFinished",
    "Verb",
    "WithdrawOrdered",
    "WorkspaceReady",
]


class Source(Enum):
    """Who speaks. Each source has its own inbound stream per shard, writable by that role only."""

    INTAKE = "intake"
    PEOPLE = "people"
    ATTEMPTS = "attempts"
    GATES = "gates"
    PUBLISHER = "publisher"
    ADMISSION = "admission"
    SUPERVISOR = "supervisor"

    # Members are single objects; Enum would hash their names in Python each time they key a dict.
    __hash__ = object.__hash__


# --- intake and people ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TicketAccepted:
    """``recovered``: the ledger was lost, and this is what the forge still knew."""

    ticket: Ticket
    recovered: Recovered | None = None


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """``by``: a login, ``cli`` or ``flower``; ``why`` is shown to people."""

    by: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    by: str


@dataclass(frozen=True, slots=True)
class SteerRequested:
    """A person's words for the agent that works on the ticket; kept for the next attempt when none is live."""

    by: str
    text: str


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """The attempt under way is checkpointed and the ticket parks until ``ResumeRequested``."""

    by: str


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    by: str


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    """A person allowed what policy asks about in exactly ``head``. The record counts, not this word (``Approval``)."""

    by: str
    head: str


@dataclass(frozen=True, slots=True)
class PullRequestClosed:
    merged: bool
    by: str = ""


# --- admission -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SlotGranted:
    """A place among the live attempts, for exactly (ticket, attempt)."""


# --- gates ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class GatesStarted:
    round: int
    head: str
    base_sha: str
    gates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateFinished:
    """``digest``: the most useful part of a red gate's log, for the next attempt and for people."""

    round: int
    name: str
    kind: str
    outcome: str
    seconds: float
    summary: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class GatesFinished:
    """Points at the VerdictRecord in the ledger; the fields here are for people and steering."""

    round: int
    head: str
    base_sha: str
    passed: bool
    summary: str
    needs: str = ""
    infrastructure: bool = False


@dataclass(frozen=True, slots=True)
class GatesFailed:
    """The gates could not be run; nothing is said about the change. ``park`` is a Reason value or empty.

    ``outage``: something outside is away; otherwise they would break again. ``handed_back``: their worker was stopped.
    """

    round: int
    detail: str
    park: str = ""
    conflict: bool = False
    outage: bool = False
    handed_back: bool = False


# --- publisher -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PublishStarted:
    round: int
    head: str


@dataclass(frozen=True, slots=True)
class Published:
    number: int
    url: str
    head: str
    base_sha: str
    local_ref: str = ""
    behind: int = 0


class PublishProblem(Enum):
    MOVED = "moved"
    NO_PASS = "no_pass"
    BASE_MOVED = "base_moved"
    FORGE_DOWN = "forge_down"
    FORBIDDEN = "forbidden"
    HANDED_BACK = "handed_back"


@dataclass(frozen=True, slots=True)
class PublishFailed:
    round: int
    problem: PublishProblem
    detail: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The fleet's own pull request of a cancelled ticket was closed with the reason; 0: look ``round`` found none."""

    number: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class StatusPosted:
    """The status comment of the issue shows at least the view's ``version``."""

    version: int


EventData = (
    TicketAccepted
    | CancelRequested
    | RetryRequested
    | SteerRequested
    | PauseRequested
    | ResumeRequested
    | ApprovalGiven
    | BudgetRaised
    | CommentHeard
    | PullRequestClosed
    | SlotGranted
    | Heartbeat
    | AttemptStarted
    | WorkspaceReady
    | AgentStarted
    | ModelAsked
    | TurnFinished
    | ToolStarted
    | ToolFinished
    | FilesTouched
    | Note
    | CommandSeen
    | SignGiven
    | ChangeReady
    | AttemptFailed
    | AttemptStopped
    | GatesStarted
    | GateFinished
    | GatesFinished
    | GatesFailed
    | PublishStarted
    | Published
    | PublishFailed
    | Withdrawn
    | StatusPosted
    | StateChanged
    | SlotAsked
    | WithdrawOrdered
    | Nudged
    | SteersTold
    | EventsMissing
)

KINDS: dict[Source, frozenset[type]] = {
    Source.INTAKE: frozenset({TicketAccepted, PullRequestClosed, CancelRequested}),
    Source.PEOPLE: frozenset(
        {
            CancelRequested,
            RetryRequested,
            SteerRequested,
            PauseRequested,
            ResumeRequested,
            ApprovalGiven,
            BudgetRaised,
            CommentHeard,
        }
    ),
    Source.ADMISSION: frozenset({SlotGranted}),
    Source.ATTEMPTS: frozenset(
        {
            Heartbeat,
            AttemptStarted,
            WorkspaceReady,
            AgentStarted,
            ModelAsked,
            TurnFinished,
            ToolStarted,
            ToolFinished,
            FilesTouched,
            Note,
            CommandSeen,
            SignGiven,
            ChangeReady,
            AttemptFailed,
            AttemptStopped,
        }
    ),
    Source.GATES: frozenset({Heartbeat, GatesStarted, GateFinished, GatesFinished, GatesFailed}),
    Source.PUBLISHER: frozenset({Heartbeat, PublishStarted, Published, PublishFailed, Withdrawn, StatusPosted}),
    Source.SUPERVISOR: frozenset({StateChanged, SlotAsked, WithdrawOrdered, Nudged, SteersTold, EventsMissing}),
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event with where and when. ``at`` is the speaker's wall time; order comes from the stream, never from it."""

    tenant: str
    ticket: str
    attempt: int
    seq: int
    at: float
    data: EventData
    source: Source
    trace: str = ""
    v: int = VERSION

    @property
    def kind(self) -> str:
        return type(self.data).__name__
