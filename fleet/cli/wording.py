"""Events and views in words. Pure; everything that came from outside is made safe by the printer."""

from __future__ import annotations

import datetime
from typing import Any, assert_never

from fleet.core.events import (
    AgentStarted,
    AttemptFailed,
    AttemptStarted,
    BudgetRaised,
    ChangeReady,
    CommentHeard,
    Envelope,
    EventsMissing,
    FilesTouched,
    GateFinished,
    GatesFailed,
    GatesStarted,
    Note,
    Nudged,
    Published,
    PublishFailed,
    SignGiven,
    StateChanged,
    SteersTold,
    TicketAccepted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    Withdrawn,
    WorkspaceReady,
)
from fleet.core.settings import Settings
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView

EXIT = {State.IN_REVIEW: 0, State.MERGED: 0, State.CLOSED: 0, State.PARKED: 4}
NEXT = {
    "no_sandbox": "mend it as said above, then `fleet retry {id}`",
    "no_gates": "add a gate to .fleet.toml or tests to the repository, then `fleet retry {id}`",
    "approval": "look at it and allow it with `fleet approve {id}`, or `fleet cancel {id}`",
    "paused": "`fleet resume {id}`",
    "budget": "allow more with `fleet approve {id} --usd N` or the comment `/fleet approve $N` on its issue; "
    "where a day or the fleet has no more, `fleet retry {id}` later; or end it with `fleet cancel {id}`",
    "needs_input": 'answer with `fleet steer {id} "…"`; it then goes on by itself',
    "config": "mend it as said above, then `fleet retry {id}`",
}
_AGAIN = "`fleet retry {id}`"


def exit_code(state: State) -> int:
    """0 pull request open, 3 not passed or escalated, 4 parked."""
    return EXIT.get(state, 3)


def at_rest(state: State) -> bool:
    """Whether the fleet does nothing more about the ticket by itself: where ``fleet run`` ends."""
    return not state.active


def sentence(event: Envelope) -> str:  # noqa: PLR0912 - one flat match over the kinds people care about
    """One line about an event; empty for those that only machines need."""
    match event.data:
        case TicketAccepted(ticket=ticket):
            return f"accepted {ticket.issue} “{ticket.title}” on {ticket.base}"
        case StateChanged(state=state, reason=reason, detail=detail, agent=agent):
            words = f"{state.value} ({reason.value.replace('_', ' ')})" + (f"; {agent} takes over" if agent else "")
            return f"{words}: {detail}" if detail and not state.active else words
        case AttemptStarted(host=host):
            return f"attempt {event.attempt} claimed on {host}"
        case WorkspaceReady(files=files, base_sha=base, seconds=seconds, fetch_seconds=fetch, dependencies=deps):
            ready = f"workspace of {files} files at {base[:10]} ready in {seconds:.1f} s (fetch {fetch:.1f} s)"
            return f"{ready}; {deps}" if deps else ready
        case AgentStarted(agent=agent, tier=tier):
            return f"agent {agent} starts in the {tier} sandbox"
        case ToolStarted(summary=summary):
            return f"runs {summary}"
        case ToolFinished(exit=code, ms=ms):
            return f"ended with exit code {code} after {ms / 1000:.1f} s"
        case FilesTouched(count=count, paths=paths):
            names = ", ".join(paths[:5]) + (" …" if count > len(paths[:5]) else "")
            return f"{count} files changed: {names}" if count else "no files changed"
        case ChangeReady(files=files, insertions=plus, deletions=minus, left_out=left):
            more = f"; left out: {', '.join(left[:5])}" if left else ""
            return f"change of {files} files (+{plus} −{minus}) handed over{more}"
        case AttemptFailed(failure=failure, detail=detail, digest=digest):
            return f"attempt failed ({failure.value}): {detail}" + (f"\n{digest}" if digest else "")
        case GatesStarted(head=head, base_sha=base, gates=gates):
            return f"gating {head[:10]} against {base[:10]}: {', '.join(gates)}"
        case GateFinished(name=name, outcome=outcome, seconds=seconds, summary=summary):
            return f"gate {name}: {outcome.replace('_', ' ')} in {seconds:.1f} s; {summary}"
        case GatesFailed(detail=detail):
            return f"the gates could not be run: {detail}"
        case Published(url=url, local_ref=ref):
            return f"draft pull request {url}" + (f", also as {ref}" if ref else "")
        case PublishFailed(problem=problem, detail=detail):
            return f"not published ({problem.value}): {detail}"
        case Withdrawn(number=number):
            return f"pull request #{number} closed"
        case EventsMissing(seq=seq):
            return f"events from {seq} on were lost on the way and are asked for again"
        case Note(text=text):
            return text
    return _of_models(event)


def _of_models(event: Envelope) -> str:
    match event.data:
        case Nudged(rung=rung, cause=cause, text=text):
            return f"supervisor: {rung.value} ({cause})" + (f": {text}" if text else "")
        case SignGiven(loop=loop, processes=processes, cpu_seconds=cpu, quiet_seconds=quiet):
            return f"guard: loop {loop}, {processes} processes, {cpu:.0f} s of CPU, last word {quiet:.0f} s ago"
        case CommentHeard(by=by, verb=verb, answer=answer):
            return f"{by} in a comment: /fleet {verb.value}: {answer}"
        case BudgetRaised(by=by, usd=usd):
            return f"{by} allows ${usd:g} more"
        case SteersTold(count=count):
            return f"the agent was told {count} message{'s' if count > 1 else ''} of people"
        case TurnFinished(turn=turn, cost=cost, model=model) if cost.model_calls:
            tokens = f"{cost.input_tokens} + {cost.output_tokens} tokens"
            return f"turn {turn} of {model}: {tokens}, ${cost.usd:.4f}"
    return ""


def agent_words(view: TicketView) -> str:
    """Who works on a ticket, whom it took over from, and who comes after."""
    came = f" (took over; {view.ticket.agent} began)" if view.passed_to else ""
    return f"{view.agent}{came}{'; then ' if view.following else ''}{', then '.join(view.following)}"


def limits_words(settings: Settings) -> str:
    """What bounds a run, said before anything is spent."""
    limits, caps, soft = settings.limits, settings.caps, settings.budget.soft
    asks = f" (asks at ${limits.usd * soft:g})" if soft < 1 else ""
    return (
        f"${limits.usd:g}{asks}, {limits.model_calls} model calls, {limits.attempt_seconds / 60:g} min an attempt, "
        f"{limits.attempts} attempts a ticket; ${settings.budget.day_usd:g} a day; {caps.tickets} tickets at once, "
        f"{caps.per_repo} per repository, {caps.open_pull_requests} open pull requests per repository"
    )


def hidden_words(ticket: Ticket) -> str:
    """What nobody could see in the issue and therefore no agent reads; empty when there was nothing."""
    parts = ((ticket.comments, "hidden comment"), (ticket.hidden, "invisible character"))
    said = [f"{count} {what}{'' if count == 1 else 's'}" for count, what in parts if count]
    return f"{' and '.join(said)} of the issue's text" if said else ""


def result(view: TicketView) -> dict[str, Any]:
    """The last line of ``fleet run --json`` (contract: docs/scripts.md)."""
    pull = view.pull_request
    return {
        "type": "result",
        "ticket": view.id,
        "state": view.state.value,
        "reason": view.reason.value,
        "detail": view.detail,
        "pull_request": None
        if pull is None
        else {
            "url": pull.url,
            "number": pull.number,
            "head_sha": pull.head_sha,
            "base_sha": pull.base_sha,
            "local_ref": pull.local_ref,
        },
        "gates": [
            {"name": gate.name, "kind": gate.kind, "outcome": gate.outcome, "seconds": round(gate.seconds, 3)}
            for gate in view.gates
        ],
        "attempts": view.attempt,
        "cost": {
            "usd": view.cost.usd,
            "input_tokens": view.cost.input_tokens,
            "output_tokens": view.cost.output_tokens,
        },
    }


def _at(moment: float | None) -> str:
    """A Unix time as people of this machine read it."""
    if moment is None:
        return "after a pause"
    return f"at {datetime.datetime.fromtimestamp(moment).astimezone().strftime('%H:%M:%S')}"


def why(view: TicketView, admission: str) -> str:
    """Why the ticket is where it is, and what comes next: how ``fleet show`` begins."""
    words, detail = view.reason.value.replace("_", " "), view.detail
    match view.state:
        case State.QUEUED:
            return f"attempt {view.attempt + 1} waits for a place: {admission or 'it is asked for'}{_came_by(view)}"
        case State.STARTING:
            return f"attempt {view.attempt} was dispatched and waits for a worker to claim it"
        case State.RUNNING if view.watch.stopping:
            waits = "the next one waits until nothing of it lives"
            return f"attempt {view.attempt} is being ended, and {waits}{_said(view.watch.stopping)}"
        case State.RUNNING:
            return f"attempt {view.attempt} is at work: {view.activity or 'it was claimed'}"
        case State.GATING:
            return f"its gates run (round {view.round}){_repeated(view)}: {view.activity or 'they were ordered'}"
        case State.PUBLISHING:
            return f"its gates passed; the pull request is being opened{_repeated(view)}"
        case State.IN_REVIEW:
            return f"a person should review {view.pull_request.url if view.pull_request else 'it'}"
        case State.BACKING_OFF:
            return f"tries again {_at(view.until)} ({words}){_said(detail)}"
        case State.PARKED:
            hint = _AGAIN if _in_doubt(view) else NEXT.get(view.reason.value, _AGAIN)
            hint = hint.format(id=view.id)
            return f"waits for a person ({words}){_said(detail)} Next: {hint}"
        case State.ESCALATED | State.REJECTED:
            return f"ended ({words}){_said(detail)} Next: `fleet retry {view.id}`"
        case State.MERGED | State.CLOSED | State.CANCELLED:
            return f"ended ({words}){_said(detail)}"
        case _ as never:
            assert_never(never)


def became(view: TicketView, state: State, reason: Reason, word: str) -> str:
    """What came of a person's order that was to bring the ticket into ``state`` for ``reason``; ``word``: "paused"."""
    if (view.state, view.reason) == (state, reason):
        return word
    is_now = view.state.value.replace("_", " ")
    if at_rest(view.state):
        return f"was not {word}: it is {is_now} ({view.reason.value.replace('_', ' ')})"
    return f"will be {word}: it is still {is_now}"


def _in_doubt(view: TicketView) -> bool:
    """Whether it waits since its ledger was lost, and asked nothing: there is no question that words would answer."""
    return view.recovered is not None and view.reason is Reason.NEEDS_INPUT and "`fleet retry " in view.detail


def _came_by(view: TicketView) -> str:
    """Why it is in the queue once more; empty for a ticket that was never tried."""
    if view.reason is Reason.ACCEPTED:
        return ""
    return f" ({view.reason.value.replace('_', ' ')}{' ' if view.detail else ''}{view.detail})"


def _repeated(view: TicketView) -> str:
    """Why gates or publisher are at it again; empty the first time."""
    if view.reason in (Reason.CHANGE_READY, Reason.GATES_PASSED):
        return ""
    return f", again ({view.reason.value.replace('_', ' ')}{': ' if view.detail else ''}{view.detail})"


def _said(detail: str) -> str:
    """The end of a sentence, with what is known; what follows begins another one."""
    if not detail:
        return "."
    return f": {detail}" if detail[-1] in ".!?…" else f": {detail}."
