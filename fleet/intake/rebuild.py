"""What becomes of a ticket whose ledger was lost: from its status comment, its issue and its pull request. Pure.

Nothing is reset and nothing is done twice: counters come rounded up, a pull request that is there is the ticket's, and
what is not certain waits for a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fleet.core import criteria, labels
from fleet.core.forge import Comment, ForgePull, Issue
from fleet.core.journal import Used
from fleet.core.recovery import Recovered
from fleet.core.sealing import Doubt, SealedState, judge
from fleet.core.spend import MICRO
from fleet.core.states import PARK_REASONS, Reason, State
from fleet.core.ticket import DEFAULT_TENANT, Ticket, TicketLimits, branch_name, text_hash, ticket_id
from fleet.core.view import TicketView
from fleet.intake.text import IssueText

_GENERATIONS = 1000
# What `fleet run` adds to the text of an issue that it copies to the local forge.
_COPIED = "\n\nFrom "
_SINCE = "The ledger was lost, and"
_CHOICE = "`fleet retry {0}` gives it one more try; `fleet cancel {0}` and putting the label on again starts it anew."


@dataclass(frozen=True, slots=True)
class Found:
    """What the comments of one issue say: ``sealed`` by generation, believed; ``doubts`` are not."""

    sealed: tuple[SealedState, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @property
    def newest(self) -> SealedState | None:
        return self.sealed[-1] if self.sealed else None


def read(comments: Iterable[Comment], issue: str, key: bytes) -> Found:
    """``issue`` as owner/name#number. What other people wrote is no doubt about what the fleet wrote."""
    judged = [judge(comment, issue, key) for comment in comments]
    sealed = sorted((one for one in judged if isinstance(one, SealedState)), key=lambda one: (one.generation, one.at))
    return Found(tuple(sealed), tuple(one for one in judged if isinstance(one, Doubt)))


def known_tickets(found: Found, place: Place, incarnation: str = "") -> dict[str, TicketView]:
    """Views of the tickets that this issue was, as far as ``decide`` asks: was it answered, is it still open.

    One whose comment is in doubt counts as over: its number is used up, and only a new act starts the next.
    ``incarnation``: of the ledger that does not know them. It never lost what it was just about to be told.
    """
    sealed = [one for one in found.sealed if not about_to_be_told(one, incarnation)]
    views = {one.ticket: _seen(ticket_of(one, place.issue, place.text), State(one.state)) for one in sealed}
    for generation in range(1, _newest_doubt(found, place) + 1):
        unknown = _unknown(place, generation)
        views.setdefault(unknown.id, _seen(unknown, State.ESCALATED))
    return views


def about_to_be_told(one: SealedState, incarnation: str) -> bool:
    """A command says so at the forge first, and then to the ledger: it died in between, or is there now."""
    first = one.state == State.QUEUED.value and one.reason == Reason.ACCEPTED.value
    return first and bool(incarnation) and one.incarnation == incarnation


def _seen(ticket: Ticket, state: State) -> TicketView:
    return TicketView(ticket, state, Reason.RECOVERED, since=0.0)


@dataclass(frozen=True, slots=True)
class Place:
    """An issue that carries a state label, and how a ticket of it would be made today. ``at``: Unix time."""

    repo: str
    issue: Issue
    text: IssueText
    base: str = ""
    agent: str = ""
    limits: TicketLimits = field(default_factory=TicketLimits)
    tenant: str = DEFAULT_TENANT
    at: float = 0.0


# --- a ticket that was open ----------------------------------------------------------------------------------------
def ticket_of(sealed: SealedState, issue: Issue, text: IssueText) -> Ticket:
    """The ticket as it was accepted, with the text that the issue has now."""
    repo = sealed.issue.rpartition("#")[0]
    text = _accepted_text(sealed, text)
    return Ticket(
        id=sealed.ticket,
        tenant=sealed.tenant,
        repo=repo,
        number=issue.number,
        generation=sealed.generation,
        title=text.title,
        body=text.body,
        text_hash=text_hash(text.title, text.body),
        base=sealed.base,
        branch=sealed.branch,
        agent=sealed.agent,
        requested_by=sealed.requested_by,
        accepted_at=sealed.accepted_at,
        criteria=criteria.parse(text.body),
        limits=sealed.limits,
        local_path=sealed.local_path,
        allow_no_tests=sealed.allow_no_tests,
        priority=sealed.priority,
        label=sealed.label,
        trigger=sealed.trigger,
        route=sealed.route,
        hidden=text.hidden,
        comments=text.comments,
    )


def _accepted_text(sealed: SealedState, text: IssueText) -> IssueText:
    shorter = text.body.rpartition(_COPIED)[0]
    if text_hash(text.title, shorter) == sealed.text_hash:
        return IssueText(text.title, shorter, text.hidden, text.comments)
    return text


def at_least(sealed: SealedState, begun: int, spent: Used) -> SealedState:
    """What this machine knows counts, too: attempts may have begun and models been asked since the last comment."""
    return replace(
        sealed,
        attempts=max(sealed.attempts, begun),
        usd=max(sealed.usd, spent.micros / MICRO),
        model_calls=max(sealed.model_calls, spent.calls),
        tokens=max(sealed.tokens, spent.tokens),
    )


def recovered(sealed: SealedState, ticket: Ticket, pull: ForgePull | None, at: float) -> Recovered | None:
    """Where the ticket goes; None for one that had ended. ``pull``: the one that the forge has of its branch or marker.

    A pull request is opened for a gated commit only, so one of ours means that the ticket had got that far. Approvals
    are asked again: the change that one was about is gone, so the next attempt makes another.
    """
    state = State(sealed.state)
    if state.terminal:
        return None
    if pull is not None and (pull.ours or pull.number == sealed.pull_request):
        return _counted(sealed, State.IN_REVIEW, Reason.RECOVERED, "", at, pull)
    if state is State.IN_REVIEW:
        lost = f"{_SINCE} pull request #{sealed.pull_request} cannot be found."
        return _counted(sealed, State.PARKED, Reason.NEEDS_INPUT, f"{lost} {_CHOICE.format(ticket.id)}", at)
    if ticket.text_hash != sealed.text_hash:
        changed = f"{_SINCE} the issue's text is not the one that was accepted. Read it. {_CHOICE.format(ticket.id)}"
        return _counted(sealed, State.PARKED, Reason.NEEDS_INPUT, changed, at)
    reason = Reason(sealed.reason)
    if state is State.PARKED and reason in PARK_REASONS and reason is not Reason.APPROVAL:
        return _counted(sealed, State.PARKED, reason, sealed.detail, at)
    # Also when it only waited: its last attempt may have begun before that could be said.
    if sealed.attempts - sealed.hand_backs >= sealed.limits.attempts:
        used = f"{_SINCE} the last of the ticket's {sealed.limits.attempts} attempts may have begun."
        return _counted(sealed, State.PARKED, Reason.NEEDS_INPUT, f"{used} {_CHOICE.format(ticket.id)}", at)
    return _counted(sealed, State.QUEUED, Reason.RECOVERED, f"{_SINCE} the ticket was taken up again.", at)


def shown(known: Recovered, before: SealedState, labelled: Iterable[str]) -> bool:
    """Whether the issue of a ticket in review says all that is known of it: the comment as it was read (``before``),
    and its labels. Then it need not be written again.
    """
    said = (before.state, before.pull_request, before.attempts, before.usd, before.model_calls, before.tokens)
    true = (known.state.value, known.pull_request, known.attempts, known.usd, known.model_calls, known.tokens)
    wanted, unwanted = labels.swap(known.state, before.label)
    there = set(labelled)
    return known.state is State.IN_REVIEW and said == true and wanted in there and there.isdisjoint(unwanted)


def _counted(
    sealed: SealedState, state: State, reason: Reason, detail: str, at: float, pull: ForgePull | None = None
) -> Recovered:
    same = pull is not None and pull.number == sealed.pull_request
    return Recovered(
        state=state,
        reason=reason,
        detail=detail,
        attempts=sealed.attempts,
        hand_backs=sealed.hand_backs,
        usd=sealed.usd,
        model_calls=sealed.model_calls,
        tokens=sealed.tokens,
        failures=sealed.failures,
        pull_request=pull.number if pull else 0,
        url=pull.url if pull else "",
        head=sealed.head if pull and same else pull.head_sha if pull else "",
        base_sha=sealed.base_sha if same else "",
        heard=sealed.heard,
        passed_to=sealed.passed_to,
        tries=sealed.tries,
        incarnation=sealed.incarnation,
        at=at,
        raised_usd=sealed.raised_usd,
        raised_last=sealed.raised_last,
    )


# --- one of which nothing is certain ---------------------------------------------------------------------------------
def certain(found: Found, place: Place) -> SealedState | None:
    """The newest state that is believed, unless a comment about a later ticket of this issue is in doubt."""
    newest = found.newest
    return newest if newest is not None and newest.generation >= _newest_doubt(found, place) else None


def doubtful(found: Found, place: Place) -> tuple[Ticket, Recovered]:
    """A ticket was there, and what it used is not known: it counts as having used everything, and a person decides."""
    highest = max((one.generation for one in found.sealed), default=0)
    ticket = _unknown(place, _newest_doubt(found, place) or highest + 1)
    why = next((doubt.why for doubt in found.doubts if doubt.ours), "it is gone")
    detail = (
        f"{_SINCE} the fleet's status comment on this issue is not believed: {why}. So nobody knows what was done;"
        f" it counts as if every limit were used. {_CHOICE.format(ticket.id)}"
    )
    limits = place.limits
    return ticket, Recovered(
        state=State.PARKED,
        reason=Reason.NEEDS_INPUT,
        detail=detail,
        attempts=limits.attempts,
        usd=limits.usd,
        model_calls=limits.model_calls,
        tokens=limits.tokens,
        at=place.at,
    )


def _newest_doubt(found: Found, place: Place) -> int:
    """The highest generation that one of our own doubtful comments names; 0 when none does."""
    named = {doubt.ticket for doubt in found.doubts if doubt.ours}
    last = max((one.generation for one in found.sealed), default=0) + len(named)
    numbers = range(1, min(_GENERATIONS, last) + 1)
    fitting = (n for n in numbers if ticket_id(place.tenant, place.repo, place.issue.number, n) in named)
    # A comment of ours that names no ticket of this issue: some ticket's comment was overwritten.
    return max(fitting, default=last if named else 0)


def _unknown(place: Place, generation: int) -> Ticket:
    repo, number, text = place.repo, place.issue.number, place.text
    return Ticket(
        id=ticket_id(place.tenant, repo, number, generation),
        tenant=place.tenant,
        repo=repo,
        number=number,
        generation=generation,
        title=text.title,
        body=text.body,
        text_hash=text_hash(text.title, text.body),
        base=place.base,
        branch=branch_name(number, generation, text.title),
        agent=place.agent,
        requested_by="",
        accepted_at=place.at,
        criteria=criteria.parse(text.body),
        limits=place.limits,
    )
