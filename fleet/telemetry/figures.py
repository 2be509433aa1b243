"""The fleet in numbers, folded from the same events as the views, so that they agree with the record after any restart.

Pure. Labels come from closed sets or are bounded in number: whoever names a model must not be able to fill a database.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleet.core.events import (
    AgentStarted,
    Envelope,
    GateFinished,
    GatesFailed,
    GatesFinished,
    Nudged,
    Published,
    PublishFailed,
    StateChanged,
    TicketAccepted,
    TurnFinished,
)
from fleet.core.figures import Family, FigureKind, Figures, Timings
from fleet.core.gates import GateKind, Outcome
from fleet.core.states import Reason, State
from fleet.telemetry.spans import OTHER, provider

MOST_MODELS = 100
_CAUSES = frozenset({"silence", "idleness", "loop", "errors", "alternation"})
_KINDS = frozenset(kind.value for kind in GateKind)
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)
_AT_WORK = frozenset({State.STARTING, State.RUNNING})
_SHORT = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_LONG = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0)
_C, _G = FigureKind.COUNTER, FigureKind.GAUGE


@dataclass(slots=True)
class _Known:
    """What must be remembered of a ticket to judge its next event. Times in Unix seconds."""

    state: State
    since: float
    accepted: float
    provider: str
    begun: float = 0.0


@dataclass(slots=True)
class _Model:
    calls: Family
    usd: Family
    tokens: Family
    unpriced: Family
    seen: set[tuple[str, str]] = field(default_factory=set)


class Book:
    """Takes every event of every log once, a ticket's in their order."""

    def __init__(self) -> None:
        self._tickets: dict[str, _Known] = {}
        self.events = Family("fleet_events", _C, "Events folded, by who said them.", ("source",))
        self.accepted = Family("fleet_tickets_accepted", _C, "Tickets accepted.")
        self.moves = Family("fleet_ticket_moves", _C, "Changes of state, by new state and reason.", ("state", "reason"))
        self.attempts = Family("fleet_attempts", _C, "Attempts that ended, by how.", ("outcome",))
        self.nudges = Family("fleet_nudges", _C, "Steps against a stall.", ("rung", "cause"))
        self.gates = Family("fleet_gates", _C, "Gates that ran on a change.", ("kind", "outcome"))
        self.rounds = Family("fleet_gate_rounds", _C, "Rounds of gates: passed, red, not_run.", ("result",))
        self.pulls = Family("fleet_pull_requests", _C, "Pull requests: published, merged, closed, failed.", ("result",))
        self.models = _Model(
            Family("fleet_model_calls", _C, "Calls to models.", ("provider", "model")),
            Family("fleet_model_usd", _C, "US dollars spent on models.", ("provider", "model")),
            Family("fleet_model_tokens", _C, "Tokens of models.", ("provider", "model", "direction")),
            Family("fleet_model_unpriced_turns", _C, "Turns with a model of unknown price.", ("provider", "model")),
        )
        self.waits = Timings("fleet_admission_seconds", "From queued to a place among the live attempts.", _LONG)
        self.worked = Timings("fleet_attempt_seconds", "How long attempts took, by their end.", _LONG, ("outcome",))
        self.gating = Timings("fleet_gate_seconds", "How long gates took.", _SHORT, ("kind",))
        self.whole = Timings(
            "fleet_ticket_seconds", "From acceptance to where the fleet had nothing more to do.", _LONG, ("state",)
        )

    def take(self, event: Envelope) -> None:
        self.events.add(1, event.source.value)
        if isinstance(event.data, TicketAccepted):
            self.accepted.add(1)
            ticket = event.data.ticket
            self._tickets[event.ticket] = _Known(State.QUEUED, event.at, event.at, provider(ticket.agent))
            return
        known = self._tickets.get(event.ticket)
        if known is None:
            return
        match event.data:
            case StateChanged() as changed:
                self._move(known, changed, event.at)
            case TurnFinished() as turn:
                self._turn(known, turn)
            case AgentStarted(agent=agent):
                known.provider = provider(agent)
            case Nudged(rung=rung, cause=cause):
                self.nudges.add(1, rung.value, cause if cause in _CAUSES else OTHER)
            case GateFinished() as gate:
                kind = gate.kind if gate.kind in _KINDS else OTHER
                self.gates.add(1, kind, gate.outcome if gate.outcome in _OUTCOMES else OTHER)
                self.gating.add(gate.seconds, kind)
            case GatesFinished(passed=passed):
                self.rounds.add(1, "passed" if passed else "red")
            case GatesFailed():
                self.rounds.add(1, "not_run")
            case Published():
                self.pulls.add(1, "published")
            case PublishFailed():
                self.pulls.add(1, "failed")
            case _:
                return

    def figures(self, now: float) -> Figures:
        """``now``: Unix seconds, for ages."""
        states = Counter(known.state for known in self._tickets.values())
        tickets = Family("fleet_tickets", _G, "Tickets by state.", ("state",))
        for state in State:
            tickets.add(states[state], state.value)
        queued = [known.since for known in self._tickets.values() if known.state is State.QUEUED]
        oldest = Family("fleet_queue_oldest_seconds", _G, "How long the ticket that waits longest is queued; 0: none.")
        oldest.add(max(0.0, now - min(queued)) if queued else 0.0)
        model = self.models
        return (
            tickets, oldest, self.accepted, self.moves, self.attempts, self.nudges, self.gates, self.rounds, self.pulls,
            model.calls, model.usd, model.tokens, model.unpriced, self.events,
            self.waits, self.worked, self.gating, self.whole,
        )  # fmt: skip

    def _move(self, known: _Known, changed: StateChanged, at: float) -> None:
        before, known.state = known.state, changed.state
        self.moves.add(1, changed.state.value, changed.reason.value)
        if changed.state is State.STARTING:
            self.waits.add(at - known.since)
            known.begun = at
        if before in _AT_WORK and changed.state not in _AT_WORK:
            outcome = changed.reason.value
            self.attempts.add(1, outcome)
            self.worked.add(at - known.begun, outcome)
        if changed.reason is Reason.PR_MERGED or changed.reason is Reason.PR_CLOSED:
            self.pulls.add(1, changed.state.value)
        if before.active and not changed.state.active:
            # What people do with it later takes their time.
            self.whole.add(at - known.accepted, changed.state.value)
        known.since = at

    def _turn(self, known: _Known, turn: TurnFinished) -> None:
        cost, key = turn.cost, (known.provider, turn.model[:80] or "unknown")
        seen = self.models.seen
        if key not in seen and len(seen) >= MOST_MODELS:
            key = (OTHER, OTHER)
        seen.add(key)
        self.models.calls.add(cost.model_calls, *key)
        self.models.usd.add(cost.usd, *key)
        self.models.tokens.add(cost.input_tokens, *key, "input")
        self.models.tokens.add(cost.output_tokens, *key, "output")
        if cost.unknown:
            self.models.unpriced.add(1, *key)
