"""view = fold(events). Pure and total: the same log always gives the same view (I17)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from fleet.core.digest import share
from fleet.core.errors import InternalError
from fleet.core.events import (
    AgentStarted,
    ApprovalGiven,
    AttemptFailed,
    AttemptStarted,
    AttemptStopped,
    BudgetRaised,
    CancelRequested,
    ChangeReady,
    CommandSeen,
    CommentHeard,
    Envelope,
    EventsMissing,
    FilesTouched,
    GateFinished,
    GatesFailed,
    GatesFinished,
    GatesStarted,
    Heartbeat,
    ModelAsked,
    Note,
    Nudged,
    PauseRequested,
    Published,
    PublishFailed,
    PublishStarted,
    PullRequestClosed,
    ResumeRequested,
    RetryRequested,
    SignGiven,
    SlotAsked,
    SlotGranted,
    Source,
    StateChanged,
    StatusPosted,
    SteerRequested,
    SteersTold,
    TicketAccepted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    Withdrawn,
    WithdrawOrdered,
    WorkspaceReady,
)
from fleet.core.frozen import replace
from fleet.core.retry import death, repeated
from fleet.core.states import Reason, State, check
from fleet.core.view import GateSummary, PullRequest, TicketView, Watch
from supervisor import late, reds, route
from supervisor.beginning import begun
from supervisor.comments import meant, noted
from supervisor.people import afforded, carried, people
from supervisor.stall import sign_words, watched

# The ticket has its one pull request; any other one is too many.
HAS_PULL = frozenset({State.IN_REVIEW, State.MERGED, State.CLOSED})
_DIGEST = 4000


def fold(view: TicketView | None, event: Envelope) -> TicketView:
    """The view after ``event``. Raises InternalError for a first event that accepts nothing."""
    if view is None:
        if not isinstance(event.data, TicketAccepted):
            raise InternalError(f"{event.kind} came before the ticket {event.ticket} was accepted.")
        return begun(event.data, event.at)
    if late.speaks(view, event):
        return replace(late.heard(view, event), version=view.version + 1)
    after = _apply(view, event)
    if event.source is Source.ATTEMPTS and event.seq:
        return replace(after, seq=event.seq, missing_from=0, version=view.version + 1)
    return replace(after, version=view.version + 1)


def fold_all(events: list[Envelope]) -> TicketView | None:
    """The whole log; what ``fleet replay`` and the property fold(log) = view use."""
    view: TicketView | None = None
    for event in events:
        view = fold(view, event)
    return view


def _apply(view: TicketView, event: Envelope) -> TicketView:  # noqa: PLR0912 - one flat match over all kinds
    news = view.news
    match event.data:
        case StateChanged() as changed:
            return late.followed(view, _moved(view, changed, event.at), changed)
        case TicketAccepted() | Heartbeat() | Note() | CommandSeen() | SignGiven() | PublishStarted() | StatusPosted():
            return _note(view, event)
        case RetryRequested() | SteerRequested() | SteersTold() | PauseRequested() | ResumeRequested():
            return people(view, event)
        case ApprovalGiven() | BudgetRaised() | Nudged():
            return people(view, event)
        case CommentHeard() as said:
            return _commented(view, event, said)
        case CancelRequested(by=by, why=why):
            return view if view.state.terminal else replace(view, cancel=f"{by}: {why}" if why else by)
        case PullRequestClosed() as closed:
            return replace(view, news=replace(news, closed=closed))
        case SlotAsked(attempt=attempt):
            return replace(view, asked=attempt)
        case SlotGranted():
            return replace(view, news=replace(news, granted=event.attempt), slot=event.attempt)
        case EventsMissing(seq=seq):
            return replace(view, missing_from=seq)
        case WithdrawOrdered(number=number):
            return replace(view, withdraw=number)
        case Withdrawn(number=number):
            return replace(view, activity=f"pull request #{number} closed")
        case Published() as pr:
            return _published(view, pr)
        case PublishFailed() as failed:
            return replace(view, news=replace(news, publish_failed=failed))
        case (
            AttemptStarted()
            | WorkspaceReady()
            | AgentStarted()
            | ModelAsked()
            | TurnFinished()
            | ToolStarted()
            | ToolFinished()
            | FilesTouched()
            | ChangeReady()
            | AttemptFailed()
            | AttemptStopped()
        ):
            return _attempt(view, event)
        case GatesStarted() | GateFinished() | GatesFinished() | GatesFailed():
            return _gates(view, event)
        case _ as never:
            assert_never(never)


def _commented(view: TicketView, event: Envelope, said: CommentHeard) -> TicketView:
    word, after = meant(view, said), noted(view, said)
    return after if word is None else _apply(after, replace(event, data=word))


def _published(view: TicketView, pr: Published) -> TicketView:
    if view.pull_request is not None and view.state in HAS_PULL and view.pull_request.number != pr.number:
        return replace(view, stray=pr.number)
    return replace(view, pull_request=PullRequest(pr.number, pr.url, pr.head, pr.base_sha, pr.local_ref))


def _note(view: TicketView, event: Envelope) -> TicketView:
    if isinstance(event.data, Note):
        return replace(view, activity=event.data.text[:200])
    if isinstance(event.data, SignGiven):
        said = sign_words(event.data)
        return replace(view, watch=replace(view.watch, sign=said), activity=f"its guard says: {said}")
    if isinstance(event.data, PublishStarted):
        return replace(view, news=replace(view.news, started=True), activity="publishing")
    return view


def _attempt(view: TicketView, event: Envelope) -> TicketView:
    news = view.news
    match event.data:
        case AttemptStarted(host=host):
            return replace(view, news=replace(news, started=True), activity=f"claimed on {host}")
        case WorkspaceReady(files=files, base_sha=base):
            return replace(view, base_sha=base, activity=f"workspace of {files} files ready")
        case AgentStarted(agent=agent, tier=tier):
            return replace(view, tier=tier, activity=f"{agent} started", watch=replace(view.watch, begun=True))
        case ModelAsked(model=model):
            return replace(view, activity=f"asks {model}", watch=replace(view.watch, asking=True))
        case TurnFinished(turn=turn, cost=cost):
            watch = replace(view.watch, asking=False)
            return replace(view, cost=view.cost + cost, activity=f"turn {turn} finished", watch=watch)
        case ToolStarted(tool=tool, summary=summary):
            watch = replace(view.watch, asking=False, doing=f"{tool} {summary}"[:200])
            return replace(view, activity=summary[:200], watch=watch)
        case ToolFinished(digest=digest, exit=code):
            watch = watched(view.watch, view.watch.doing, digest, code)
            return replace(view, activity=f"{view.activity} (exit {code})"[:220], watch=watch)
        case FilesTouched(count=count):
            return replace(view, activity=f"{count} files touched")
        case ChangeReady() as change:
            return replace(view, change=change, activity=f"change of {change.files} files handed over")
        case AttemptFailed() as failure:
            return replace(view, news=replace(news, failure=failure))
        case AttemptStopped(reason=reason, left=left):
            return replace(view, news=replace(news, stopped=reason or "stopped", left=left))
    return view


def _gates(view: TicketView, event: Envelope) -> TicketView:
    news = view.news
    match event.data:
        case GatesStarted(head=head, base_sha=base):
            return replace(view, head=head, base_sha=base, gates=(), news=replace(news, started=True))
        case GateFinished() as gate:
            rest = tuple(known for known in view.gates if known.name != gate.name)
            summary = GateSummary(gate.name, gate.kind, gate.outcome, gate.seconds, gate.summary, gate.digest)
            return replace(view, gates=(*rest, summary), activity=f"gate {gate.name}: {gate.outcome}")
        case GatesFinished() as verdict:
            return replace(view, news=replace(news, verdict=verdict), head=verdict.head, base_sha=verdict.base_sha)
        case GatesFailed() as failed:
            return replace(view, news=replace(news, gates_failed=failed))
    return view


def _moved(view: TicketView, changed: StateChanged, at: float) -> TicketView:
    """A change of state: checked against the table; empties the news; counts what failed."""
    check(view.state, changed.state, changed.reason)
    moved = replace(
        view,
        state=changed.state,
        reason=changed.reason,
        detail=changed.detail,
        since=at,
        until=changed.until,
        turn=changed.turn,
        news=carried(view.news, changed),
    )
    if view.state is State.QUEUED and changed.state is not State.STARTING:
        moved = replace(moved, asked=0)  # its request is given back; another one must be made
    if changed.state is State.STARTING:
        return replace(
            moved, attempt=changed.attempt, seq=0, missing_from=0, change=None, round=0, gates=(), watch=Watch()
        )
    untold = changed.state is State.CANCELLED and view.state is State.PUBLISHING
    if untold or (changed.state is State.CLOSED and view.lost_publishers):
        # A publisher that died between creating the pull request and telling leaves one behind: it is looked for.
        moved = replace(moved, withdraw=0)
    if changed.state is State.GATING:
        again = changed.reason in _TOLD_AGAIN
        moved = replace(moved, slot=0, round=view.round if again else view.round + 1)
    elif changed.state is not State.RUNNING:
        moved = replace(moved, slot=0)
    moved = _counted(moved, view, changed)
    if changed.agent:
        moved = _taken_over(moved, changed.agent)
    if view.reason is Reason.NEEDS_INPUT and changed.reason is Reason.RESUMED:
        # The next attempt reads question and answer before its first turn, or it would ask again.
        answer = f"It asked a person: {view.digest}\nThe person answered: {' '.join(view.steers)}"
        moved = replace(moved, digest=answer[:_DIGEST], steers=())
    if changed.state is State.BACKING_OFF or changed.reason is Reason.NEEDS_INPUT:
        failure = view.news.failure
        # What a stalled attempt says last, it was told to say.
        failure = None if changed.reason is Reason.STALLED else failure
        told = (failure.digest or failure.detail) if failure else _red(view) or changed.detail
        if changed.reason is Reason.GATES_RED and view.state in _AT_WORK:
            told = f"{told}\n{view.digest}"  # what the gates said of it then
        moved = replace(moved, digest=told[:_DIGEST])
    if changed.reason in (Reason.GATES_RED, Reason.POLICY, Reason.BASE_MOVED):
        # What the gates refused is mended, not thrown away.
        moved = replace(moved, repair=view.attempt)
    if changed.reason is Reason.APPROVED and changed.state is State.QUEUED:
        moved = afforded(moved)
    return moved


def _counted(moved: TicketView, view: TicketView, changed: StateChanged) -> TicketView:
    """What this move says against the ticket, keyed by cause; a person's word is new evidence about what waited."""
    if changed.reason in (Reason.RETRY_ASKED, Reason.RESUMED):
        kept = tuple(pair for pair in view.failures if pair[0] not in _FORGIVEN and not pair[0].startswith(reds.PREFIX))
        return replace(moved, failures=kept)
    ended = view.state in _AT_WORK or (changed.reason is Reason.PAUSED and view.state is State.GATING)
    if ended and changed.reason in _UNCOUNTED:
        moved = replace(moved, hand_backs=view.hand_backs + 1)
    if changed.reason not in _COUNTED:
        return moved
    if changed.state is view.state and changed.reason in _TOLD_AGAIN:
        causes = {repeated(view.state, changed.reason)}
    else:
        causes = {changed.reason.value, death(changed.reason.value, changed.detail)}
    if changed.reason is Reason.GATES_RED:
        causes |= reds.causes(view)
    if changed.reason in route.AGAINST:
        moved = replace(moved, tries=view.tries + 1)
    return replace(moved, failures=_count(view.failures, causes))


def _taken_over(moved: TicketView, agent: str) -> TicketView:
    """Another agent is new evidence: what was held against the one before is not held against it."""
    kept = tuple(pair for pair in moved.failures if not route.forgets(pair[0]))
    return replace(moved, passed_to=agent, tries=0, failures=kept)


def _red(view: TicketView) -> str:
    """What the red gates said, for the next attempt; empty when none was red."""
    red = reds.red_gates(view)
    return share([(f"Gate {gate.name} ({gate.kind}) {gate.outcome}: {gate.summary}", gate.digest) for gate in red])


_AT_WORK = frozenset({State.STARTING, State.RUNNING})
# These say nothing against the agent or the ticket: no attempt is counted.
_UNCOUNTED = frozenset(
    {
        Reason.HANDED_BACK,
        Reason.NEVER_CLAIMED,
        Reason.PROVIDER_LIMIT,
        Reason.TRANSIENT,
        Reason.PAUSED,
        Reason.NEEDS_INPUT,
    }
)
# The same order once more, for the same round.
_TOLD_AGAIN = frozenset({Reason.LOST, Reason.TRANSIENT, Reason.HANDED_BACK})
_WAITS = (Reason.HANDED_BACK, Reason.NEVER_CLAIMED, Reason.PROVIDER_LIMIT, Reason.TRANSIENT)
_FORGIVEN = frozenset(
    {reason.value for reason in _WAITS}
    | {repeated(s, r) for s in (State.GATING, State.PUBLISHING) for r in (Reason.TRANSIENT, Reason.HANDED_BACK)}
)
_COUNTED = frozenset(
    {
        Reason.LOST,
        Reason.STALLED,
        Reason.TRANSIENT,
        Reason.CRASHED,
        Reason.PROVIDER_LIMIT,
        Reason.HANDED_BACK,
        Reason.NEVER_CLAIMED,
        Reason.AGENT_ERROR,
        Reason.PROTOCOL,
        Reason.GATES_RED,
        Reason.POLICY,
        Reason.BASE_MOVED,
        Reason.HEAD_MOVED,
    }
)


def _count(failures: tuple[tuple[str, int], ...], causes: Iterable[str]) -> tuple[tuple[str, int], ...]:
    counts = dict(failures)
    for cause in causes:
        counts[cause] = counts.get(cause, 0) + 1
    return tuple(sorted(counts.items()))
