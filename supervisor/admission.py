"""Who may start next: one entity for the whole fleet, with grants keyed (ticket, attempt). Pure.

Order: priority, then the tenant and repository with the fewest live attempts, then age. A grant is idempotent and is
given back as an event; ``reconcile`` finds those that nobody will give back. A crash over-reserves, never over-admits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.core.states import State
from fleet.core.view import TicketView


@dataclass(frozen=True, slots=True)
class Caps:
    """How many attempts may live at once, and how many fleet pull requests may be open per repository.

    ``tenants``: those that have fewer places than the others; never more.
    """

    fleet: int = 4
    tenant: int = 4
    repo: int = 2
    open_pull_requests: int = 5
    tenants: Mapping[str, int] = field(default_factory=dict)

    def of(self, tenant: str) -> int:
        return min(self.tenant, self.tenants.get(tenant, self.tenant))


@dataclass(frozen=True, slots=True)
class Request:
    """A ticket that waits. ``at``: when the ticket was accepted, so that a retry keeps its age."""

    ticket: str
    attempt: int
    tenant: str
    repo: str
    priority: int
    at: float

    @property
    def key(self) -> str:
        return f"{self.ticket}:{self.attempt}"


def request_of(view: TicketView, attempt: int) -> Request:
    ticket = view.ticket
    return Request(view.id, attempt, ticket.tenant, ticket.repo, ticket.priority, ticket.accepted_at)


@dataclass(frozen=True, slots=True)
class Message:
    """What shards tell admission. ``verb``: ask, return, pr_open, pr_closed."""

    verb: str
    request: Request


@dataclass(frozen=True, slots=True)
class Choice:
    granted: tuple[Request, ...]
    why: Mapping[str, str]


def choose(
    waiting: Mapping[str, Request], grants: Mapping[str, Request], pulls: Mapping[str, str], caps: Caps
) -> Choice:
    """Grants for free places, and for everyone else the reason in words. ``pulls``: ticket → repo of its open PR."""
    tenants = Counter(grant.tenant for grant in grants.values())
    repos = Counter(grant.repo for grant in grants.values())
    open_pulls = Counter(pulls.values())
    granted: list[Request] = []
    why: dict[str, str] = {}
    left = [request for request in waiting.values() if request.key not in grants]
    while left:
        left.sort(key=lambda r: (-r.priority, tenants[r.tenant], repos[r.repo], r.at, r.key))
        live, first = len(grants) + len(granted), 0
        while first < len(left) and (reason := _blocked(left[first], live, tenants, repos, open_pulls, caps)):
            why[left[first].ticket] = reason
            first += 1
        if first == len(left):
            break
        request = left[first]
        granted.append(request)
        tenants[request.tenant] += 1
        repos[request.repo] += 1
        # Places are only taken here, so whoever was blocked stays blocked; the rest is ordered anew.
        left = left[first + 1 :]
    return Choice(tuple(granted), why)


def _blocked(
    request: Request,
    live: int,
    tenants: Counter[str],
    repos: Counter[str],
    pulls: Counter[str],
    caps: Caps,
) -> str:
    if live >= caps.fleet:
        return f"{live} of {caps.fleet} places of the fleet are taken"
    if tenants[request.tenant] >= caps.of(request.tenant):
        return f"{tenants[request.tenant]} of {caps.of(request.tenant)} places of tenant {request.tenant} are taken"
    if repos[request.repo] >= caps.repo:
        return f"{repos[request.repo]} of {caps.repo} places of {request.repo} are taken"
    if pulls[request.repo] >= caps.open_pull_requests:
        return f"{pulls[request.repo]} pull requests of the fleet are open on {request.repo}; merge or close one"
    return ""


def holds(view: TicketView | None, attempt: int) -> bool:
    """Whether (ticket, attempt) still needs its place: what ``reconcile`` asks about each grant."""
    if view is None:
        return False
    if view.state is State.QUEUED:
        return view.attempt + 1 == attempt
    return view.state in (State.STARTING, State.RUNNING) and view.attempt == attempt


def in_review(view: TicketView | None) -> bool:
    """Whether the ticket's pull request is open."""
    return view is not None and view.state is State.IN_REVIEW


def reconcile(grants: Mapping[str, Request], views: Mapping[str, TicketView]) -> tuple[str, ...]:
    """Keys of grants, or of requests, that nobody holds any more."""
    return tuple(key for key, grant in grants.items() if not holds(views.get(grant.ticket), grant.attempt))
