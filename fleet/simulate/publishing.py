"""The publisher as ``fleet.publisher`` works: begin, pass, push by compare-and-swap, find or create, and then tell."""

from __future__ import annotations

from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import TemporaryError, UsageError
from fleet.core.events import (
    EventData,
    Published,
    PublishFailed,
    PublishProblem,
    PublishStarted,
    Source,
    StatusPosted,
    Withdrawn,
)
from fleet.core.gates import GatePass, NoPass
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.publisher import plan as decide
from fleet.simulate.forge import Forge, Pull
from fleet.simulate.lines import LineLedger
from fleet.simulate.places import Places
from fleet.simulate.processes import Steps, Work
from fleet.simulate.record import Protections

_AT_REST = frozenset({State.PARKED, State.REJECTED, State.ESCALATED, State.CANCELLED})


class Stop(Exception):
    """Publishing ends here with a problem that the supervisor acts on."""

    def __init__(self, problem: PublishProblem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


class Publishing:
    """One wake-up of the queue ``publish``."""

    def __init__(self, places: Places, ledger: LineLedger, owner: str, protections: Protections) -> None:
        self._places = places
        self._forge: Forge = places.forge
        self._ledger = ledger
        self._owner = owner
        self._protections = protections
        self._name = ledger.line.name
        self._work = Work(ledger, Source.PUBLISHER)

    def status(self, ticket: str, attempt: int, round_: int) -> Steps[None]:
        view = self._ledger.view(ticket)
        if view is None:
            return
        order = yield from self._begin(Effect(EffectKind.STATUS, ticket, attempt, round_))
        if order is not None:
            yield 0.1
            if view.pull_request is None and view.head and view.state in _AT_REST:
                yield from self._tell_unknown(view)
            yield from self._work.tell(view, StatusPosted(view.version))

    def withdraw(self, ticket: str, attempt: int, round_: int) -> Steps[None]:
        view = self._ledger.view(ticket)
        if view is None:
            return
        order = yield from self._begin(Effect(EffectKind.WITHDRAW, ticket, attempt, round_, view.withdraw))
        if order is None:
            return
        found = yield from self._work.insist(lambda: self._forge.find(self._name, view.ticket))
        yield 0.1
        own = view.pull_request.number if view.pull_request and view.state is not State.CANCELLED else 0
        if found is not None and found.open and view.withdraw in (0, found.number) and found.number != own:
            yield from self._work.insist(lambda: self._forge.close(self._name, found))
            yield 0.1
        yield from self._work.tell(view, Withdrawn(view.withdraw, round_))

    def pull_request(self, ticket: str, attempt: int, round_: int) -> Steps[None]:
        view = self._ledger.view(ticket)
        if view is None:
            return
        order = yield from self._begin(Effect(EffectKind.PUBLISH, ticket, attempt, round_, view.turn))
        if order is None:
            return
        yield from self._work.tell(view, PublishStarted(round_, view.head))
        try:
            said: EventData = yield from self._publish(view, order, attempt, round_)
        except Stop as stop:
            said = PublishFailed(round_, stop.problem, str(stop))
        except TemporaryError as error:
            said = PublishFailed(round_, PublishProblem.FORGE_DOWN, str(error))
        except UsageError as error:
            said = PublishFailed(round_, PublishProblem.FORBIDDEN, str(error))
        yield 0.05
        if isinstance(said, PublishFailed) and said.problem is PublishProblem.MOVED:
            yield from self._tell_unknown(self._ledger.view(ticket) or view)
        yield from self._work.tell(view, said)

    def _tell_unknown(self, view: TicketView) -> Steps[None]:
        found = yield from self._work.insist(lambda: self._forge.find(self._name, view.ticket))
        known = view.pull_request.number if view.pull_request else 0
        ours = self._places.pushed.get(view.id, {}).values()
        if found is not None and found.open and found.number != known and found.head in ours:
            yield from self._work.tell(view, Published(found.number, "", found.head, view.base_sha))

    def _begin(self, effect: Effect) -> Steps[Effect | None]:
        yield 0.02
        ordered = self._ledger.outbox(effect.id, effect.ticket)
        if ordered is None:
            if self._protections.wanted:
                return None
            ordered = effect
        yield 0.02
        return ordered if self._ledger.begin("publisher", ordered, self._owner) else None

    def _publish(self, view: TicketView, order: Effect, attempt: int, round_: int) -> Steps[Published]:
        proof = self._pass(view, attempt, round_)
        yield 0.05
        behind = self._drift(view, proof)
        yield from self._work.during(view, order, 1.0)
        if not self._protections.result_last:
            yield from self._work.tell(view, Published(len(self._forge.pulls) + 1, "", proof.head, proof.base_sha))
        yield from self._push(view, proof, (attempt, round_))
        yield 0.3
        pull = yield from self._pull_request(view)
        if pull.head != proof.head:
            raise Stop(PublishProblem.MOVED, f"The pull request is at {pull.head}.")
        yield from self._work.during(view, order, 7.0)
        return Published(pull.number, f"url/{pull.number}", proof.head, proof.base_sha, "", behind)

    def _pass(self, view: TicketView, attempt: int, round_: int) -> GatePass:
        ledger, ticket = self._ledger, view.id
        head = self._places.heads.get((ticket, attempt), "")
        verdict = ledger.verdict(ticket, attempt, round_)
        gated = head
        if not self._protections.bound_pass and verdict is not None:
            gated = verdict.head  # some commit of the attempt passed, and another one is pushed
        plan, records = ledger.gate_plan(ticket, attempt, gated), ledger.gate_records(ticket, attempt, gated)
        proof = decide.pass_for(view, attempt, gated, plan, records, verdict)
        if isinstance(proof, NoPass):
            raise Stop(PublishProblem.NO_PASS, "; ".join(proof.reasons))
        if gated != head:
            object.__setattr__(proof, "head", head)
        return proof

    def _drift(self, view: TicketView, proof: GatePass) -> int:
        now = self._places.base(view.ticket)
        if now == proof.base_sha:
            return 0
        conflicts = ("a.py",) if self._places.conflicts(view.ticket, now) else ()
        move = decide.BaseMove(self._forge.behind(view.ticket.repo, proof.base_sha), True, frozenset(), conflicts)
        what, why = decide.drift(move, frozenset(), frozenset(), view.failed(Reason.BASE_MOVED.value))
        if what is decide.Drift.REGATE:
            raise Stop(PublishProblem.BASE_MOVED, why)
        return move.behind

    def _push(self, view: TicketView, proof: GatePass, fence: tuple[int, int]) -> Steps[None]:
        ticket = view.ticket
        there = self._forge.head(self._name, ticket.branch)
        if there == proof.head:
            return
        if there not in self._our_heads(view):
            raise Stop(PublishProblem.MOVED, f"The branch is at {there}, which the fleet did not put there.")
        self._places.pushed.setdefault(ticket.id, {})[proof.attempt, view.round] = proof.head
        yield 0.3  # whoever moves the branch from now on wins
        if self._forge.push(self._name, ticket, fence, proof.head, there):
            return
        yield 0.1
        if self._forge.head(self._name, ticket.branch) != proof.head:
            raise Stop(PublishProblem.MOVED, "Somebody else moved the branch in the meantime.")

    def _our_heads(self, view: TicketView) -> frozenset[str]:
        pushed = self._places.pushed.get(view.id, {})
        earlier = (head for at, head in pushed.items() if at < (view.attempt, view.round))
        if view.pull_request is not None:
            return frozenset({view.pull_request.head_sha, *earlier})
        return frozenset({"", *earlier})

    def _pull_request(self, view: TicketView) -> Steps[Pull]:
        pull = self._forge.find(self._name, view.ticket) if self._protections.look_up else None
        yield 0.2
        if pull is None:
            try:
                pull = self._forge.create(self._name, view.ticket)
            except (TemporaryError, UsageError):
                yield 0.1
                pull = self._forge.find(self._name, view.ticket)
                if pull is None:
                    raise
        yield 0.1
        return pull
