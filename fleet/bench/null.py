"""Workers that do nothing but keep the ledger's rules: what is left is the fleet's own cost.

They begin what was ordered, put the records that a pass is made of, and tell; git, sandbox and forge are left out.
"""

from __future__ import annotations

import itertools
import os

from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import InternalError
from fleet.core.events import (
    ChangeReady,
    Envelope,
    EventData,
    GateFinished,
    GatesFinished,
    GatesStarted,
    Published,
    PublishFailed,
    PublishProblem,
    PublishStarted,
    Source,
    StatusPosted,
    Withdrawn,
)
from fleet.core.gates import (
    GateKind,
    GatePass,
    GatePlanRecord,
    GateRecord,
    Mode,
    NoPass,
    Outcome,
    TestCounts,
    VerdictRecord,
    make_pass,
)
from fleet.core.ports import Clock, Ledger
from fleet.core.view import TicketView

GATES = (("ruff", GateKind.LINT), ("pytest", GateKind.TESTS), ("policy", GateKind.POLICY))
DIGEST = "0" * 64
_CALLS = itertools.count(1)


def _owner() -> str:
    return f"bench:{os.getpid()}:{next(_CALLS)}"


def records(view: TicketView, attempt: int, round: int, change: ChangeReady) -> tuple[GatePlanRecord, list[GateRecord]]:
    """A plan, and a green record for each of its gates."""
    names = tuple(name for name, _ in GATES)
    head, base = change.commit, change.base_sha
    plan = GatePlanRecord(view.id, attempt, round, head, base, DIGEST, names, names)
    counts = TestCounts(total=1, passed=1)
    made = [
        GateRecord(
            view.id,
            attempt,
            head,
            base,
            DIGEST,
            name,
            kind,
            Mode.NO_REGRESSION,
            Outcome.PASSED,
            0.0,
            "nothing was run",
            tests=counts if kind is GateKind.TESTS else None,
        )
        for name, kind in GATES
    ]
    return plan, made


class NullGates:
    """What a worker of the queue ``gates`` does, without a checkout: begin, plan, records, verdict, telling."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def run(self, ticket: str, attempt: int, round: int) -> None:
        view = self._ledger.view(ticket)
        if view is None or view.attempt != attempt or view.change is None:
            return
        order = Effect(EffectKind.RUN_GATES, ticket, attempt, round, view.turn)
        wanted = self._ledger.outbox(order.id, ticket)
        if wanted is None or not self._ledger.begin("gates", wanted, _owner()):
            return
        plan, made = records(view, attempt, round, view.change)
        self._ledger.put_gate_plan(plan)
        self._tell(view, [GatesStarted(round, plan.head, plan.base_sha, plan.gates)], durable=False)
        for record in made:
            self._ledger.put_gate_record(record)
        told: list[EventData] = [
            GateFinished(round, one.name, one.kind.value, one.outcome.value, one.seconds, one.summary) for one in made
        ]
        verdict = VerdictRecord(ticket, attempt, round, plan.head, plan.base_sha, DIGEST, True, "all gates passed")
        self._ledger.put_verdict(verdict)
        done = GatesFinished(round, plan.head, plan.base_sha, True, verdict.summary)
        self._tell(view, [*told, done], durable=True)

    def _tell(self, view: TicketView, said: list[EventData], durable: bool) -> None:
        now = self._clock.now()
        events = [Envelope(view.ticket.tenant, view.id, view.attempt, 0, now, data, Source.GATES) for data in said]
        self._ledger.send(Source.GATES, events, durable=durable)


class NullPublisher:
    """What a worker of the queue ``publish`` does, without a forge. It, too, publishes nothing without a pass."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def pull_request(self, ticket: str, attempt: int, round: int) -> None:
        view = self._ledger.view(ticket)
        if view is None or not self._begin(Effect(EffectKind.PUBLISH, ticket, attempt, round, view.turn)):
            return
        self._tell(view, attempt, PublishStarted(round, view.head))
        proof = self._proof(view, attempt, round)
        self._tell(view, attempt, outcome(view, round, proof))

    def status(self, ticket: str, attempt: int, round: int) -> None:
        view = self._ledger.view(ticket)
        if view is not None and self._begin(Effect(EffectKind.STATUS, ticket, attempt, round)):
            self._tell(view, attempt, StatusPosted(view.version))

    def withdraw(self, ticket: str, attempt: int, round: int) -> None:
        view = self._ledger.view(ticket)
        if view is not None and self._begin(Effect(EffectKind.WITHDRAW, ticket, attempt, round, view.withdraw)):
            self._tell(view, attempt, Withdrawn(view.withdraw))

    def _proof(self, view: TicketView, attempt: int, round: int) -> GatePass | NoPass:
        verdict = self._ledger.verdict(view.id, attempt, round)
        if verdict is None or not verdict.passed:
            return NoPass(("no verdict",))
        plan = self._ledger.gate_plan(view.id, attempt, verdict.head)
        return make_pass(plan, self._ledger.gate_records(view.id, attempt, verdict.head), verdict.head)

    def _begin(self, effect: Effect) -> bool:
        ordered = self._ledger.outbox(effect.id, effect.ticket)
        return ordered is not None and self._ledger.begin("publisher", ordered, _owner())

    def _tell(self, view: TicketView, attempt: int, data: EventData) -> None:
        event = Envelope(view.ticket.tenant, view.id, attempt, 0, self._clock.now(), data, Source.PUBLISHER)
        self._ledger.send(Source.PUBLISHER, [event], durable=True)


def outcome(view: TicketView, round: int, proof: GatePass | NoPass) -> Published | PublishFailed:
    """The answer to a publication that touched no forge. Raises InternalError for a pass of another ticket."""
    if isinstance(proof, NoPass):
        return PublishFailed(round, PublishProblem.NO_PASS, "; ".join(proof.reasons))
    if proof.ticket != view.id:
        raise InternalError(f"The pass of {proof.ticket} is not one of {view.id}.")
    number = view.ticket.number
    return Published(number, f"http://localhost/{number}", proof.head, proof.base_sha)
