"""The gates as ``ci_gates.tasks`` runs them: begin, build H, record gate by gate, verdict, and only then tell."""

from __future__ import annotations

from collections.abc import Callable

from fleet.core.effects import Effect, EffectKind
from fleet.core.events import EventData, GateFinished, GatesFailed, GatesFinished, GatesStarted, Source
from fleet.core.gates import GateKind, GatePlanRecord, GateRecord, Mode, Outcome, TestCounts, VerdictRecord
from fleet.core.view import TicketView
from fleet.simulate.lines import LineLedger
from fleet.simulate.places import Places
from fleet.simulate.processes import Steps, Work

_GATES = (("policy", GateKind.POLICY), ("tests", GateKind.TESTS))
_CONFIG = "config"


class Gates:
    """One wake-up of the queue ``gates``. ``passed(head)`` is told what really passed."""

    def __init__(self, places: Places, ledger: LineLedger, owner: str, passed: Callable[[str], None]) -> None:
        self._places = places
        self._ledger = ledger
        self._owner = owner
        self._passed = passed
        self._work = Work(ledger, Source.GATES)

    def steps(self, ticket: str, attempt: int, round_: int) -> Steps[None]:
        view = self._ledger.view(ticket)
        if view is None or view.attempt != attempt:
            return
        order = Effect(EffectKind.RUN_GATES, ticket, attempt, round_, view.turn)
        yield 0.02
        wanted = self._ledger.outbox(order.id, ticket)
        if wanted is None:
            return
        yield 0.02
        if not self._ledger.begin("gates", wanted, self._owner):
            return
        yield 0.02
        known = self._ledger.verdict(ticket, attempt, round_)
        if known is not None and not known.infrastructure:
            yield from self._work.tell(view, _finished(known))
            return
        said = yield from self._run(view, wanted, round_)
        if not self._work.withdrawn:
            yield 0.02
            yield from self._work.tell(view, said)

    def _run(self, view: TicketView, order: Effect, round_: int) -> Steps[EventData]:
        ticket, attempt = view.ticket, view.attempt
        change = view.change or self._places.bundles.get((ticket.id, attempt))
        if change is None:
            return GatesFailed(round_, "No change lies in the artifact store.")
        base = self._places.base(ticket)
        yield 0.1
        outcome = self._places.verdict(ticket, attempt, base)
        if outcome == "broken":
            return GatesFailed(round_, "The disk is full.")
        if outcome == "conflict":
            return GatesFailed(round_, "The change conflicts with the current main.", conflict=True)
        head = self._places.build(ticket, attempt, change, base)
        yield 0.1
        names = tuple(name for name, _ in _GATES)
        plan = GatePlanRecord(ticket.id, attempt, round_, head, base, _CONFIG, names, names)
        yield from self._work.insist(lambda: self._ledger.put_gate_plan(plan))
        yield from self._work.tell(view, GatesStarted(round_, head, base, names))
        return (yield from self._each(view, order, plan, outcome))

    def _each(self, view: TicketView, order: Effect, plan: GatePlanRecord, outcome: str) -> Steps[EventData]:
        for name, kind in _GATES:
            yield from self._work.during(view, order, 6.0)
            if self._work.withdrawn:
                return GatesFailed(plan.round, "The order was withdrawn.")
            record = _record(plan, name, kind, outcome)
            yield from self._work.insist(lambda one=record: self._ledger.put_gate_record(one))  # type: ignore[misc]
            yield 0.02
            said = GateFinished(plan.round, name, kind.value, record.outcome.value, 1.0, "")
            yield from self._work.tell(view, said)
        if outcome == "passed":
            self._passed(plan.head)
        verdict = VerdictRecord(
            plan.ticket,
            plan.attempt,
            plan.round,
            plan.head,
            plan.base_sha,
            plan.config_digest,
            outcome == "passed",
            outcome,
            needs="approval" if outcome == "park" else "",
            infrastructure=outcome == "infrastructure",
        )
        yield from self._work.insist(lambda: self._ledger.put_verdict(verdict))
        return _finished(verdict)


def _record(plan: GatePlanRecord, name: str, kind: GateKind, outcome: str) -> GateRecord:
    said = Outcome.PASSED
    if name == "tests":
        said = {"red": Outcome.FAILED, "infrastructure": Outcome.INFRASTRUCTURE}.get(outcome, said)
    return GateRecord(
        plan.ticket,
        plan.attempt,
        plan.head,
        plan.base_sha,
        plan.config_digest,
        name,
        kind,
        Mode.REQUIRED,
        said,
        1.0,
        "",
        tests=TestCounts(3, 3) if kind is GateKind.TESTS else None,
    )


def _finished(verdict: VerdictRecord) -> GatesFinished:
    return GatesFinished(
        verdict.round,
        verdict.head,
        verdict.base_sha,
        verdict.passed,
        verdict.summary,
        verdict.needs,
        verdict.infrastructure,
    )
