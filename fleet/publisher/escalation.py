"""The evidence about a ticket that needs a person: what was tried, how it ended, what it cost, what is left. Pure.

It lies in the artifact store before the issue says a word. Words of agents and tools stand in it as they came: whoever
shows them to people escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet.core.budget import Cost
from fleet.core.story import AttemptStory
from fleet.core.view import GateSummary, TicketView

VERSION = 1
_MOST_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt. ``kept``: the artifact of its change or of what it had done, empty when it left nothing."""

    attempt: int
    agent: str
    ended: str
    detail: str
    digest: str
    seconds: float
    turns: int
    tool_calls: int
    nudges: int
    cost: Cost
    refused_by: tuple[str, ...] = ()
    commit: str = ""
    tree: str = ""
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Escalation:
    """``attempts`` oldest first; ``agents``: everybody of the route who worked; ``cost``: of all of them."""

    v: int
    ticket: str
    tenant: str
    issue: str
    generation: int
    branch: str
    base: str
    base_sha: str
    state: str
    reason: str
    detail: str
    agents: tuple[str, ...]
    attempts: tuple[Tried, ...]
    gates: tuple[GateSummary, ...]
    failures: tuple[tuple[str, int], ...]
    cost: Cost


def name(ticket: str) -> str:
    """The artifact's name."""
    return f"tickets/{ticket}/escalation.json"


def bundle(view: TicketView, told: Sequence[AttemptStory], kept: Callable[[int], str]) -> Escalation:
    """``kept``: the artifact that an attempt left, by its number."""
    ticket = view.ticket
    return Escalation(
        v=VERSION,
        ticket=ticket.id,
        tenant=ticket.tenant,
        issue=ticket.issue,
        generation=ticket.generation,
        branch=ticket.branch,
        base=ticket.base,
        base_sha=view.base_sha,
        state=view.state.value,
        reason=view.reason.value,
        detail=view.detail,
        agents=tuple(dict.fromkeys(one.agent for one in told if one.agent)),
        attempts=tuple(_tried(one, kept(one.number)) for one in told[-_MOST_ATTEMPTS:]),
        gates=view.gates,
        failures=view.failures,
        cost=view.cost,
    )


def _tried(one: AttemptStory, kept: str) -> Tried:
    change = one.change
    return Tried(
        attempt=one.number,
        agent=one.agent,
        ended=one.ended,
        detail=one.detail,
        digest=one.digest,
        seconds=round(one.seconds, 3),
        turns=one.turns,
        tool_calls=one.calls,
        nudges=one.nudges,
        cost=one.cost,
        refused_by=one.red,
        commit=change.commit if change else "",
        tree=change.tree if change else "",
        kept=kept,
    )
