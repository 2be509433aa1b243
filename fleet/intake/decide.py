"""Whether a request becomes a new ticket, and which. Pure: same request and record, same answer (I2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.core import criteria
from fleet.core.errors import UsageError
from fleet.core.past import Past
from fleet.core.ticket import DEFAULT_TENANT, Ticket, TicketLimits, branch_name, text_hash, ticket_id
from fleet.core.view import TicketView
from fleet.intake.text import IssueText

_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,98}/[A-Za-z0-9_.-]{1,100}")
_GENERATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for: an issue that exists at the forge, its text, and how to work on it.

    ``label``, ``trigger`` (the forge's id of the act of putting it on) and ``acted_at`` (Unix time of that act, by the
    forge's clock) are those of a labelled issue.
    ``route``: who takes over when the agent is at its end.
    ``others``: the other tenants, whose ticket the issue may be already.
    """

    repo: str
    number: int
    text: IssueText
    base: str
    agent: str
    requested_by: str
    tenant: str = DEFAULT_TENANT
    limits: TicketLimits = field(default_factory=TicketLimits)
    local_path: str = ""
    allow_no_tests: bool = False
    priority: int = 0
    label: str = ""
    trigger: str = ""
    acted_at: float = 0.0
    route: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewTicket:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class SameTicket:
    """The issue already is an open ticket, or this very label was answered: nothing is accepted."""

    ticket: Ticket


Decision = NewTicket | SameTicket


def decide(request: Request, known: Callable[[str], TicketView | Past | None], now: float) -> Decision:
    """``known`` looks a ticket id up, also one that was forgotten; ``now`` in Unix seconds.

    Raises UsageError for a request that names nothing.

    Generations are counted by asking for each id in turn: they are deterministic and without gaps. A label is one
    ticket, however often it is heard of and however long ago: only putting it on again is a new one.
    """
    _check(request)
    for generation in range(1, _GENERATIONS):
        view = _earlier(request, generation, known)
        if view is None:
            return NewTicket(_ticket(request, generation, now))
        if isinstance(view, Past):
            if _answered(request, view.trigger, view.at):
                return SameTicket(_ticket(request, generation, view.at))
        elif not view.state.terminal or _answered(request, view.ticket.trigger, view.ticket.accepted_at):
            return SameTicket(view.ticket)
    raise UsageError(f"{request.repo}#{request.number} was a ticket too often.", "Open a new issue.")


def _earlier(
    request: Request, generation: int, known: Callable[[str], TicketView | Past | None]
) -> TicketView | Past | None:
    """A repository may have changed hands meanwhile: the same issue is the same ticket all the same (I2)."""
    tenants = (request.tenant, *request.others)
    ids = (ticket_id(tenant, request.repo, request.number, generation) for tenant in tenants)
    return next((view for view in map(known, ids) if view is not None), None)


def _answered(request: Request, trigger: str, accepted_at: float) -> bool:
    """Whether a ticket was made for the act that ``request`` is about, or for a command that came after it."""
    if not request.label:
        return False
    return trigger == request.trigger or (not trigger and request.acted_at <= accepted_at)


def _check(request: Request) -> None:
    if not _REPO.fullmatch(request.repo):
        raise UsageError(f"{request.repo[:80]!r} is not a repository.", "Name it as owner/name.")
    if request.number < 1:
        raise UsageError(f"{request.number} is not the number of an issue.")
    if not request.agent.strip():
        raise UsageError("No agent is named.", 'Give one, for example --agent "command:ruff check --fix .".')
    if not request.base.strip():
        raise UsageError("No base branch is named.", "Give one with --base.")


def _ticket(request: Request, generation: int, now: float) -> Ticket:
    title, body = request.text.title, request.text.body
    return Ticket(
        id=ticket_id(request.tenant, request.repo, request.number, generation),
        tenant=request.tenant,
        repo=request.repo,
        number=request.number,
        generation=generation,
        title=title,
        body=body,
        text_hash=text_hash(title, body),
        base=request.base,
        branch=branch_name(request.number, generation, title),
        agent=request.agent.strip(),
        requested_by=request.requested_by,
        accepted_at=now,
        criteria=criteria.parse(body),
        limits=request.limits,
        local_path=request.local_path,
        allow_no_tests=request.allow_no_tests,
        priority=request.priority,
        label=request.label,
        trigger=request.trigger,
        hidden=request.text.hidden,
        comments=request.text.comments,
        route=request.route,
    )
