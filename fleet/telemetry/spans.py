"""A ticket's trace from its log: ``spans(events, incarnation)``. Pure; the same log always gives the same spans.

The root lasts from acceptance to the moment when the fleet had nothing more to do by itself (a pull request, or a
state that waits for a person). Below it lies one span per phase; below a phase what happened in it. No text of an
issue, an agent or a tool is in a span, only names, numbers and the fleet's own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fleet.core.events import (
    AgentStarted,
    AttemptStarted,
    Envelope,
    GateFinished,
    GatesFinished,
    ModelAsked,
    Nudged,
    Published,
    StateChanged,
    TicketAccepted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    WorkspaceReady,
)
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from fleet.core.tracing import ROOT, Mark, SpanData, Value, span_id, trace_id

# Where the fleet itself has nothing more to do: then a ticket's trace is told.
SETTLED = frozenset(state for state in State if not state.active)

_PHASES = {
    State.QUEUED: "admission",
    State.STARTING: "attempt",
    State.RUNNING: "attempt",
    State.GATING: "gates",
    State.PUBLISHING: "publish",
    State.BACKING_OFF: "backoff",
    State.PARKED: "parked",
}
# The reasons for which a phase ends well; with any other it failed. A person's word is no failure.
_ASKED = frozenset({Reason.HANDED_BACK, Reason.PAUSED, Reason.CANCELLED_BY_PERSON})
_GOOD = {
    "attempt": _ASKED | {Reason.CHANGE_READY},
    "gates": _ASKED | {Reason.GATES_PASSED},
    "publish": _ASKED | {Reason.PUBLISHED},
}
_RED = frozenset({"failed", "timed_out", "infrastructure"})
_UNANSWERED = "no answer"
OTHER = "other"
_PROVIDERS = frozenset({"anthropic", "openai", "rehearsal", "command"})
Attributes = dict[str, Value]


@dataclass(slots=True)
class _Open:
    """A span that has begun. ``key`` tells it from the others of its trace."""

    name: str
    key: str
    start: float
    attributes: Attributes = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    children: list[SpanData] = field(default_factory=list)
    client: bool = False


def spans(events: Sequence[Envelope], incarnation: str) -> tuple[SpanData, ...]:
    """The root first. Empty for a log that does not begin with the acceptance, or that has not settled yet."""
    if not events or not isinstance(events[0].data, TicketAccepted):
        return ()
    trace = _Trace(events[0].data.ticket, events[0].at, incarnation)
    for number, event in enumerate(events):
        trace.take(number, event)
    return trace.finished()


class _Trace:
    """Walks through one log."""

    def __init__(self, ticket: Ticket, at: float, incarnation: str) -> None:
        self._ticket = ticket
        self._id = trace_id(incarnation, ticket.id)
        self._state = State.QUEUED
        self._phase: _Open | None = _Open("admission", "phase:0", at)
        self._asked: _Open | None = None
        self._tools: dict[str, _Open] = {}
        self._root = _Open(ROOT, ROOT, at, self._about())
        self._told: tuple[float, State, Reason] | None = None
        self._provider = provider(ticket.agent)
        self._sums: dict[str, float] = {"usd": 0.0, "calls": 0, "attempts": 0}

    def take(self, number: int, event: Envelope) -> None:
        match event.data:
            case StateChanged() as changed:
                self._move(number, changed, event)
            case Nudged(rung=rung, cause=cause, seconds=seconds):
                why = (("fleet.rung", rung.value), ("fleet.cause", cause), ("fleet.seconds", seconds))
                self._mark(Mark("nudge", event.at, why))
            case ModelAsked() | TurnFinished():
                self._model(number, event, event.data)
            case ToolStarted() | ToolFinished():
                self._tool(number, event, event.data)
            case _:
                self._detail(number, event)

    def finished(self) -> tuple[SpanData, ...]:
        if self._told is None or self._state not in SETTLED:
            return ()
        end, state, reason = self._told
        self._root.attributes |= {
            "fleet.state": state.value,
            "fleet.reason": reason.value,
            "fleet.attempts": int(self._sums["attempts"]),
            "fleet.model_calls": int(self._sums["calls"]),
            "fleet.usd": round(self._sums["usd"], 6),
        }
        error = reason.value if state in (State.ESCALATED, State.REJECTED) else ""
        root = self._close(self._root, end, "", error)
        inside = [_within(child, root) for child in self._root.children if child.start <= end]
        return (root, *inside)

    # --- the phases ------------------------------------------------------------------------------------------------
    def _move(self, number: int, changed: StateChanged, event: Envelope) -> None:
        before, self._state = self._state, changed.state
        if changed.state in SETTLED and before not in SETTLED:
            self._told = (event.at, changed.state, changed.reason)
        if (before, changed.state) == (State.STARTING, State.RUNNING):
            return
        self._end_phase(event.at, changed)
        name = _PHASES.get(changed.state)
        if name is None:
            return
        self._phase = _Open(name, f"phase:{number}", event.at)
        self._phase.attributes["fleet.attempt"] = changed.attempt or event.attempt
        if name == "attempt":
            self._sums["attempts"] += 1
        if name in ("backoff", "parked"):
            self._phase.attributes["fleet.reason"] = changed.reason.value

    def _end_phase(self, at: float, changed: StateChanged) -> None:
        phase, self._phase = self._phase, None
        # A ticket that ends while it is parked was told when it parked.
        if phase is None or (phase.name == "parked" and changed.state in SETTLED):
            return
        for left in (self._asked, *self._tools.values()):
            if left is not None:
                phase.children.append(self._close(left, at, self._span(phase), _UNANSWERED))
        self._asked = None
        self._tools.clear()
        phase.attributes["fleet.outcome"] = changed.reason.value
        good = _GOOD.get(phase.name)
        error = changed.reason.value if good is not None and changed.reason not in good else ""
        whole = self._close(phase, at, self._span(self._root), error)
        self._root.children += [whole, *(_within(child, whole) for child in phase.children)]

    # --- what happens in them --------------------------------------------------------------------------------------
    def _model(self, number: int, event: Envelope, said: ModelAsked | TurnFinished) -> None:
        """An answer that was asked for twice closes the last question; what was spent stands where it was told."""
        if isinstance(said, ModelAsked):
            if self._asked is not None:
                self._put(self._asked, event.at, _UNANSWERED)
            about: Attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": self._provider,
                "gen_ai.request.model": said.model,
            }
            self._asked = _Open(f"chat {said.model}", f"chat:{number}", event.at, about, client=True)
            return
        cost = said.cost
        self._sums["usd"] += cost.usd
        self._sums["calls"] += cost.model_calls
        asked, self._asked = self._asked, None
        if asked is None:
            return
        asked.attributes |= {
            "gen_ai.usage.input_tokens": cost.input_tokens,
            "gen_ai.usage.output_tokens": cost.output_tokens,
            "fleet.turn": said.turn,
            "fleet.usd": round(cost.usd, 6),
        }
        self._put(asked, event.at)

    def _tool(self, number: int, event: Envelope, said: ToolStarted | ToolFinished) -> None:
        if isinstance(said, ToolStarted):
            about: Attributes = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": said.tool,
                "gen_ai.tool.call.id": said.call,
            }
            self._tools[said.call] = _Open(f"execute_tool {said.tool}", f"tool:{number}", event.at, about)
            return
        started = self._tools.pop(said.call, None)
        if started is not None:
            # A command of a model may well fail: that is an answer, not an error of the fleet.
            started.attributes["fleet.exit"] = said.exit
            self._put(started, event.at)

    def _detail(self, number: int, event: Envelope) -> None:
        match event.data:
            case AttemptStarted(host=host, agent=agent):
                self._tell({"fleet.host": host, "fleet.agent": agent.partition(":")[0]})
                self._mark(Mark("claimed", event.at))
            case AgentStarted(tier=tier):
                self._tell({"fleet.sandbox": tier})
            case WorkspaceReady(files=files, seconds=seconds, fetch_seconds=fetching):
                about: Attributes = {"fleet.files": files, "fleet.fetch_seconds": fetching}
                self._put(_Open("workspace", f"workspace:{number}", event.at - seconds - fetching, about), event.at)
            case GateFinished(name=name, kind=kind, outcome=outcome, seconds=seconds):
                about = {"fleet.gate": name, "fleet.gate.kind": kind, "fleet.gate.outcome": outcome}
                gate = _Open(f"gate {name}", f"gate:{number}", event.at - seconds, about)
                self._put(gate, event.at, outcome if outcome in _RED else "")
            case GatesFinished(round=round_, head=head, passed=passed):
                self._tell({"fleet.round": round_, "fleet.head": head, "fleet.passed": passed})
            case Published(number=pull):
                self._tell({"fleet.pull_request": pull})
                self._root.attributes["fleet.pull_request"] = pull
            case _:
                return

    def _put(self, child: _Open, at: float, error: str = "") -> None:
        """Into the phase under way; what comes after its end belongs to none."""
        if self._phase is not None:
            self._phase.children.append(self._close(child, at, self._span(self._phase), error))

    def _tell(self, about: Attributes) -> None:
        if self._phase is not None:
            self._phase.attributes |= about

    def _mark(self, mark: Mark) -> None:
        if self._phase is not None:
            self._phase.marks.append(mark)

    def _span(self, of: _Open) -> str:
        return span_id(self._id, of.key)

    def _close(self, one: _Open, end: float, parent: str, error: str = "") -> SpanData:
        about = tuple(one.attributes.items())
        end = max(one.start, end)
        return SpanData(
            one.name, self._id, self._span(one), parent, one.start, end, about, tuple(one.marks), error, one.client
        )

    def _about(self) -> Attributes:
        ticket = self._ticket
        return {
            "fleet.ticket": ticket.id,
            "fleet.tenant": ticket.tenant,
            "fleet.repo": ticket.repo,
            "fleet.issue": ticket.number,
            "fleet.generation": ticket.generation,
            "fleet.agent": ticket.agent.partition(":")[0],
        }


def _within(child: SpanData, parent: SpanData) -> SpanData:
    """The clocks of several machines need not agree; a child that left its parent would be drawn nowhere."""
    start = min(max(child.start, parent.start), parent.end)
    end = min(max(child.end, start), parent.end)
    marks = tuple(replace(mark, at=min(max(mark.at, start), end)) for mark in child.marks)
    return replace(child, start=start, end=end, marks=marks)


def provider(agent: str) -> str:
    """The agent's backend, named as the conventions for generative AI name providers."""
    name = agent.partition(":")[0].strip()
    name = "openai" if name.startswith("openai") else name
    return name if name in _PROVIDERS else OTHER
