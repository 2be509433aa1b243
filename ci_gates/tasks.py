"""What the wake-ups on the queue ``gates`` call. A wake-up is only a hint: the outbox says what is wanted.

Everything is recorded in the ledger before it is told (I14), so a lost event costs time and never an outcome; a round
that already has its verdict is told again, not run again.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ci_gates.head import Head, build_head
from ci_gates.plain import clean
from ci_gates.runner import Gated, GateRunner, Job, Listener
from fleet.adapters.crash import crash_here
from fleet.adapters.git import BareRepo
from fleet.adapters.process import ProgramFailed
from fleet.adapters.teller import Teller
from fleet.core.codec import CodecError, decode
from fleet.core.digest import useful
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import FleetError, ParkError, TemporaryError, UsageError
from fleet.core.events import (
    ChangeReady,
    EventData,
    GateFinished,
    GatesFailed,
    GatesFinished,
    GatesStarted,
    Source,
)
from fleet.core.gates import GatePlanRecord, GateRecord, Mode, Outcome, VerdictRecord
from fleet.core.ports import Artifacts, Clock, Ledger
from fleet.core.states import PARK_REASONS, Reason
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView

ROLE = "gates"
_DIGEST = 2000
_PARKS = frozenset(reason.value for reason in PARK_REASONS)


class GateTasks:
    """``store`` gives the fleet's own repository of owner/name; ``fetch_base`` brings the ticket's base branch there
    and returns its SHA. ``host`` names this machine in claims. ``stopping``: whether this worker was told to go.
    """

    def __init__(
        self,
        ledger: Ledger,
        runner: GateRunner,
        store: Callable[[str], BareRepo],
        artifacts: Artifacts,
        fetch_base: Callable[[Ticket], str],
        clock: Clock,
        host: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        self._runner = runner
        self._store = store
        self._artifacts = artifacts
        self._fetch_base = fetch_base
        self._teller = Teller(ledger, Source.GATES, clock)
        self._host = host
        self._stopping = stopping
        self._calls = itertools.count(1)

    def run(self, ticket: str, attempt: int, round: int) -> None:
        """Gates the change of (ticket, attempt) once and tells the verdict; silent when the order does not stand."""
        view = self._ledger.view(ticket)
        if view is None or view.attempt != attempt:
            return
        order = Effect(EffectKind.RUN_GATES, ticket, attempt, round, view.turn)
        wanted = self._ledger.outbox(order.id, ticket)
        owner = f"{self._host}:{os.getpid()}:{next(self._calls)}"
        if wanted is None or self._stopping() or not self._ledger.begin(ROLE, wanted, owner):
            return
        with self._teller.owing(view, wanted):
            self._begun(view, wanted)

    def hand_back(self) -> tuple[str, ...]:
        """This worker must go: the rounds under way are ordered again, and nothing is counted. Answers their ids."""
        detail = "Their worker was stopped."
        return self._teller.hand_back(lambda order: GatesFailed(order.round, detail, handed_back=True))

    def _begun(self, view: TicketView, wanted: Effect) -> None:
        ticket, attempt, round = wanted.ticket, wanted.attempt, wanted.round
        crash_here("gates.begun")
        known = self._ledger.verdict(ticket, attempt, round)
        if known is not None and not known.infrastructure:
            self._teller.tell(view, view.attempt, _finished(known))
            return
        bug: Exception | None = None
        with self._teller.beating(view, attempt, wanted) as withdrawn:
            try:
                said = self._outcome(view, round, withdrawn)
            except Exception as error:
                # A bug of ours is told with its words; raised again, it stands in the log and in Flower.
                bug = error
                said = GatesFailed(round, f"The gates ended in {type(error).__name__}: {clean(str(error))}")
        if not withdrawn.is_set():
            crash_here("gates.before_told")
            self._teller.tell(view, attempt, said)
        if bug is not None:
            raise bug

    def _outcome(self, view: TicketView, round: int, withdrawn: threading.Event) -> EventData:
        """A boundary: every expected error becomes a GatesFailed that says what to do about it."""
        try:
            return self._gate(view, round, withdrawn)
        except ParkError as error:
            reason = error.reason if error.reason in _PARKS else Reason.CONFIG.value
            return GatesFailed(round, clean(str(error)), park=reason)
        except UsageError as error:
            return GatesFailed(round, clean(str(error)), park=Reason.CONFIG.value)
        except TemporaryError as error:
            return GatesFailed(round, clean(str(error))[:2000], outage=True)
        except (FleetError, OSError) as error:
            return GatesFailed(round, clean(str(error))[:2000] or type(error).__name__)

    def _gate(self, view: TicketView, round: int, withdrawn: threading.Event) -> EventData:
        ticket, change = view.ticket, self._change(view)
        store = self._store(ticket.repo)
        with _locked(store.path):
            base_sha = self._fetch_base(ticket)
            if not base_sha:
                raise ParkError(Reason.CONFIG.value, f"{ticket.repo} has no branch {ticket.base} any more.")
            head = self._head(view, change, store, base_sha)
            if not head.sha:
                return GatesFailed(round, _no_head(head, ticket), conflict=True)
            store.update_ref(f"refs/fleet/{ticket.id}/{view.attempt}", head.sha)
        crash_here("gates.head_built")
        folder = f"tickets/{ticket.id}/{view.attempt}"
        # Of exactly this commit: when base moved since, H is another one, and the person must look again.
        allowed = [
            one for one in self._ledger.approvals(ticket.id) if (one.attempt, one.head) == (view.attempt, head.sha)
        ]
        job = Job(
            ticket.id, view.attempt, round, head.sha, base_sha, folder, ticket.allow_no_tests, next(iter(allowed), None)
        )
        gated = self._runner.run(store, job, self._listener(view, round, withdrawn))
        if withdrawn.is_set():
            raise TemporaryError("The order was withdrawn while the gates ran.")
        self._keep(gated)
        return _finished(gated.verdict)

    def _change(self, view: TicketView) -> ChangeReady:
        """The hand-over: what the view says, else what lies at its place (the event may have been lost)."""
        if view.change is not None:
            return view.change
        raw = self._artifacts.get(f"tickets/{view.id}/{view.attempt}/change.json")
        if raw is None:
            raise TemporaryError(f"No change of attempt {view.attempt} lies in the artifact store.")
        try:
            return decode(raw, ChangeReady)
        except CodecError as error:
            raise TemporaryError(f"The change of attempt {view.attempt} cannot be read: {error}") from error

    def _head(self, view: TicketView, change: ChangeReady, store: BareRepo, base_sha: str) -> Head:
        bundle = self._artifacts.path(change.bundle)
        if bundle is None:
            raise TemporaryError(f"The bundle {change.bundle} is not in the artifact store.")
        try:
            store.unbundle(bundle)
        except ProgramFailed as error:
            # Its prerequisite is gone when the base branch was rewritten: the work must be done again on the new one.
            if store.rev(change.base_sha) is None:
                return Head("", base_sha, (f"the base branch no longer contains {change.base_sha[:12]}",))
            raise TemporaryError(f"The bundle of attempt {view.attempt} cannot be read: {error}") from error
        if store.rev(change.commit) is None or store.tree(change.commit) != change.tree:
            raise TemporaryError(f"The bundle of attempt {view.attempt} does not hold the change that was announced.")
        previous = view.pull_request.head_sha if view.pull_request is not None else ""
        return build_head(store, view.ticket, change.commit, base_sha, previous)

    def _listener(self, view: TicketView, round: int, withdrawn: threading.Event) -> Listener:
        def planned(plan: GatePlanRecord) -> None:
            self._teller.insist(lambda: self._ledger.put_gate_plan(plan))
            self._teller.tell(view, view.attempt, GatesStarted(round, plan.head, plan.base_sha, plan.gates))

        def recorded(record: GateRecord) -> None:
            self._teller.insist(lambda: self._ledger.put_gate_record(record))
            crash_here("gates.record_put")
            outcome = record.outcome.value
            kind = record.kind.value
            # Advice never decides, and must not look as if it did.
            summary = f"advice only: {record.summary}" if record.mode is Mode.ADVISORY else record.summary
            said = self._digest(record)
            self._teller.tell(
                view,
                view.attempt,
                GateFinished(round, record.name, kind, outcome, record.seconds, summary[:2000], said),
            )

        return Listener(planned, recorded, withdrawn.is_set)

    def _digest(self, record: GateRecord) -> str:
        """What a red gate's log says, as far as it helps to mend the change; empty for any other."""
        if record.outcome not in (Outcome.FAILED, Outcome.TIMED_OUT) or not record.log:
            return ""
        log = self._artifacts.get(record.log)
        return useful(clean(log.decode("utf-8", "replace")), _DIGEST) if log else ""

    def _keep(self, gated: Gated) -> None:
        self._teller.insist(lambda: self._ledger.put_verdict(gated.verdict))
        crash_here("gates.verdict_put")


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


def _no_head(head: Head, ticket: Ticket) -> str:
    if head.empty:
        return f"{ticket.base} already contains this change, so there is nothing left to propose."
    shown = ", ".join(clean(path) for path in head.conflicts[:10])
    return f"The change conflicts with the current {ticket.base} in {shown}."


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """One at a time fetches into a store and builds in it; the kernel lets go when the holder dies."""
    handle = os.open(store / "fleet.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
