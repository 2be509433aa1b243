"""A ticket's view: what the log adds up to. Written by the shard's owner alone (``supervisor.fold``), read by all."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet.core.budget import Cost
from fleet.core.events import (
    AttemptFailed,
    ChangeReady,
    GatesFailed,
    GatesFinished,
    PublishFailed,
    PullRequestClosed,
)
from fleet.core.recovery import Recovered
from fleet.core.retry import repeated
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket


@dataclass(frozen=True, slots=True)
class GateSummary:
    """``digest``: the most useful part of a red gate's log."""

    name: str
    kind: str
    outcome: str
    seconds: float
    summary: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class PullRequest:
    number: int
    url: str
    head_sha: str
    base_sha: str
    local_ref: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """The whole fleet is paused: nothing new starts until a person resumes it. ``at``: Unix time."""

    by: str
    at: float


@dataclass(frozen=True, slots=True)
class News:
    """What the current state's worker said and no decision has used yet; emptied by every change of state.

    ``left``: processes that a guard still saw at its end, −1 for unknown.
    """

    started: bool = False
    failure: AttemptFailed | None = None
    stopped: str = ""
    left: int = -1
    verdict: GatesFinished | None = None
    gates_failed: GatesFailed | None = None
    publish_failed: PublishFailed | None = None
    closed: PullRequestClosed | None = None
    retry_by: str = ""
    pause_by: str = ""
    resume_by: str = ""
    approved: str = ""
    approved_by: str = ""
    granted: int = 0
    raised_by: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """What tells progress from a stall in the current attempt; empty until its agent started.

    ``asking``: a model was asked and has not answered. ``doing``: the call under way. ``calls``: the newest calls with
    their results, oldest first; ``seen``: digests of those that were new. ``progress`` counts what was new,
    ``rung``: the next step of the ladder is this one or a harder one. ``sign``: what the guard answered to the last
    probe. ``stopping``: why the attempt is being ended, empty while it is not.
    """

    begun: bool = False
    asking: bool = False
    doing: str = ""
    calls: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    progress: int = 0
    rung: int = 0
    sign: str = ""
    stopping: str = ""


@dataclass(frozen=True, slots=True)
class Late:
    """An attempt that counts as lost and may live, cut off. Until its successor is claimed it may still hand over.

    ``attempt``: 0 for none; ``seq``: its last folded event; ``change``: what it handed over.
    """

    attempt: int = 0
    seq: int = 0
    change: ChangeReady | None = None


@dataclass(frozen=True, slots=True)
class TicketView:
    """Counters, who raises and who checks them: docs/counters.md.

    ``attempt`` is the number of the newest attempt ordered (0: none yet); ``seq`` the last folded event of it.
    ``round`` is the gate round of this attempt, ``turn`` counts re-orders of the current state's effect after a
    loss. ``asked`` is the attempt for which admission was asked last; ``slot`` the one that holds a place (0: none).
    ``failures`` are (cause, count) pairs. ``digest`` is what the next attempt is told about the last failure,
    and ``repair`` the attempt whose change it is to mend (0: none).
    ``stray``: a second pull request that a publisher opened after it was given up (0: none); it is closed.
    ``steers``: what people said to the agent and no attempt was told yet.
    ``recovered``: what another ledger knew of the ticket, when that one was lost.
    ``passed_to``: the agent of the ticket's route that took over last, empty for the first one; ``tries``: attempts of
    the agent at work that count against it.
    ``heard``: number of the newest comment whose order was taken; ``answers`` to the last of them.
    ``late``: the attempt that was lost last, while nobody has claimed the next one.
    ``raised_usd``: dollars that people allowed on top of the ticket's limit, ``raised_last`` the newest of them.
    """

    ticket: Ticket
    state: State
    reason: Reason
    since: float
    version: int = 0
    detail: str = ""
    attempt: int = 0
    seq: int = 0
    hand_backs: int = 0
    asked: int = 0
    slot: int = 0
    round: int = 0
    turn: int = 0
    until: float | None = None
    news: News = field(default_factory=News)
    activity: str = ""
    change: ChangeReady | None = None
    head: str = ""
    base_sha: str = ""
    gates: tuple[GateSummary, ...] = ()
    pull_request: PullRequest | None = None
    withdraw: int = -1
    stray: int = 0
    failures: tuple[tuple[str, int], ...] = ()
    digest: str = ""
    repair: int = 0
    cost: Cost = field(default_factory=Cost)
    cancel: str = ""
    missing_from: int = 0
    tier: str = ""
    watch: Watch = field(default_factory=Watch)
    steers: tuple[str, ...] = ()
    recovered: Recovered | None = None
    late: Late = field(default_factory=Late)
    raised_usd: float = 0.0
    raised_last: float = 0.0
    passed_to: str = ""
    tries: int = 0
    heard: int = 0
    answers: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.ticket.id

    @property
    def agent(self) -> str:
        """Who works on it now."""
        return self.passed_to or self.ticket.agent

    @property
    def listens(self) -> bool:
        """Whether words for its agent reach one: now, or in the next attempt of a ticket that a person may retry."""
        ended = self.state.terminal and self.state not in (State.REJECTED, State.ESCALATED)
        return not (ended or self.state is State.IN_REVIEW or self.agent.startswith("command:"))

    @property
    def following(self) -> tuple[str, ...]:
        """Who takes over after that, in order."""
        route = self.ticket.route
        return route[route.index(self.passed_to) + 1 :] if self.passed_to in route else route

    @property
    def lost_publishers(self) -> int:
        """How many went silent, and may go on all the same."""
        return self.failed(repeated(State.PUBLISHING, Reason.LOST))

    def failed(self, cause: str) -> int:
        """How often ``cause`` happened to this ticket."""
        return dict(self.failures).get(cause, 0)
