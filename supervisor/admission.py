"""Who may start next: one entity for the whole fleet, with grants keyed (ticket, attempt). Pure.

Order: priority, then the tenant and repository with the fewest live attempts, then age. A grant is idempotent and is
given back as an event; ``reconcile`` finds those that nobody will give back. A crash over-reserves, never over-admits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace

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
    """What shards tell admission. ``verb``: ask, return, pr_open (or on its way), pr_closed (or never opened)."""

    verb: str
    request: Request


@dataclass(frozen=True, slots=True)
class Choice:
    granted: tuple[Request, ...]
    why: Mapping[str, str]


def choose(
    waiting: Mapping[str, Request], grants: Mapping[str, Request], pulls: Mapping[str, str], caps: Caps
) -> Choice:
    """Grants for free places, and for everyone else the reason in words.

    ``pulls``: ticket → repo of its pull request that is open, or on its way from the gates.
    """
    tenants = Counter(grant.tenant for grant in grants.values())
    repos = Counter(grant.repo for grant in grants.values())
    open_pulls = Counter(pulls.values())
    granted: list[Request] = []
    why: dict[str, str] = {}
    lines = _lines(request for request in waiting.values() if request.key not in grants)

    def rank(line: list[Request]) -> tuple[int, int, int, float, str]:
        first = line[-1]
        return -first.priority, tenants[first.tenant], repos[first.repo], first.at, first.key

    heads = [(rank(line), number) for number, line in enumerate(lines)]
    heapify(heads)
    while heads:
        told, number = heads[0]
        line = lines[number]
        now = rank(line)
        if told != now:
            # Places are only taken here, so a rank only gets worse: nobody before this one was passed over.
            heapreplace(heads, (now, number))
            continue
        request = line.pop()
        if reason := _blocked(request, len(grants) + len(granted), tenants, repos, open_pulls, caps):
            why[request.ticket] = reason  # whoever is blocked stays blocked
        else:
            granted.append(request)
            tenants[request.tenant] += 1
            repos[request.repo] += 1
        if line:
            heapreplace(heads, (rank(line), number))
        else:
            heappop(heads)
    return Choice(tuple(granted), why)


def _lines(requests: Iterable[Request]) -> list[list[Request]]:
    """Those between whom only age decides stand in one line, the oldest last."""
    lines: dict[tuple[int, str, str], list[Request]] = {}
    for request in requests:
        lines.setdefault((request.priority, request.tenant, request.repo), []).append(request)
    for line in lines.values():
        line.sort(key=lambda request: (request.at, request.key), reverse=True)
    return list(lines.values())


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
    # Whoever is at work now may open one, too: counted when it is open, a burst of tickets would pass the cap.
    if pulls[request.repo] + repos[request.repo] >= caps.open_pull_requests:
        return (
            f"{caps.open_pull_requests} pull requests of the fleet may be open on {request.repo}; "
            f"{pulls[request.repo]} are open or at the gates, {repos[request.repo]} are worked on: merge or close one"
        )
    return ""


def holds(view: TicketView | None, attempt: int) -> bool:
    """Whether (ticket, attempt) still needs its place: what ``reconcile`` asks about each grant."""
    if view is None:
        return False
    if view.state is State.QUEUED:
        return view.attempt + 1 == attempt
    return view.state in (State.STARTING, State.RUNNING) and view.attempt == attempt


# From its hand-over to its end a change takes one of the open pull requests of its repository.
PULLS = frozenset({State.GATING, State.PUBLISHING, State.IN_REVIEW})


def has_pull(view: TicketView | None) -> bool:
    """Whether the ticket's pull request is open or on its way."""
    return view is not None and view.state in PULLS


def reconcile(grants: Mapping[str, Request], views: Mapping[str, TicketView]) -> tuple[str, ...]:
    """Keys of grants, or of requests, that nobody holds any more."""
    return tuple(key for key, grant in grants.items() if not holds(views.get(grant.ticket), grant.attempt))
