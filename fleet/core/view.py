"""A ticket's view: what the log adds up to. Written by the shard's owner alone (``supervisor.fold``), read by all."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet.core.budget import Cost
from fleet.core.events import ChangeReady
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket


@dataclass(frozen=True, slots=True)
class GateSummary:
    name: str
    kind: str
    outcome: str
    seconds: float
    summary: str


@dataclass(frozen=True, slots=True)
class PullRequest:
    number: int
    url: str
    head_sha: str
    base_sha: str
    local_ref: str = ""


@dataclass(frozen=True, slots=True)
class TicketView:
    """Counters, who raises and who checks them: docs/counters.md.

    ``attempt`` is the number of the newest attempt ordered (0: none yet); ``seq`` the last folded event of it.
    ``turn`` counts re-orders of the current state's effect after a loss. ``failures`` are (cause, count) pairs.
    ``wants_slot`` while an ASK_SLOT for ``attempt + 1`` is open. ``digest`` is what the next attempt is told.
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
    granted: bool = False
    round: int = 0
    turn: int = 0
    until: float | None = None
    started: bool = False
    activity: str = ""
    change: ChangeReady | None = None
    head: str = ""
    base_sha: str = ""
    gates: tuple[GateSummary, ...] = ()
    gate_needs: str = ""
    pull_request: PullRequest | None = None
    failures: tuple[tuple[str, int], ...] = ()
    digest: str = ""
    cost: Cost = field(default_factory=Cost)
    cancel: str = ""
    missing_from: int = 0
    tier: str = ""

    @property
    def id(self) -> str:
        return self.ticket.id

    def failed(self, cause: str) -> int:
        """How often ``cause`` happened to this ticket."""
        return dict(self.failures).get(cause, 0)
