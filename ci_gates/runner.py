"""Runs a plan: policy first, then every gate on base and on H, each in a fresh checkout in the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from ci_gates import plan as plans
from ci_gates import verdict as verdicts
from ci_gates.bench import VARIANTS, Bench
from ci_gates.inputs import PROGRAMS, offered, read_edits, read_texts
from ci_gates.plain import clean
from ci_gates.plan import POLICY, Plan, is_test_path
from ci_gates.policy import PolicyResult, judge
from ci_gates.reproduced import overlay_tree, reproduced
from ci_gates.runs import Health, Run, TestStatus
from ci_gates.verdict import Settled
from fleet.adapters.git import BareRepo, FileChange
from fleet.adapters.slots import Slot, Slots
from fleet.core import gateconfig
from fleet.core.codec import CodecError, decode, encode
from fleet.core.environment import Environments, Prepared
from fleet.core.errors import InternalError, TemporaryError
from fleet.core.gates import (
    PASSING,
    Approval,
    GateKind,
    GatePlanRecord,
    GateRecord,
    GateSpec,
    Mode,
    Outcome,
    VerdictRecord,
)
from fleet.core.ports import Artifacts, Clock, Ids
from fleet.core.sandbox import Ending, Sandbox

_MOST_RERUN = 50
_RERUNS_ON_BASE = 2
_REASONS = 5
_COUNTER_CHECK_ALL_S = 60.0
_COUNTER_CHECKED = 200


@dataclass(frozen=True, slots=True)
class Job:
    """What is gated. ``folder`` is the artifact folder of its logs; ``allow_no_tests`` is the ticket's word.

    ``approval``: a person's, of exactly this commit; what policy asks about is then allowed.
    """

    ticket: str
    attempt: int
    round: int
    head: str
    base_sha: str
    folder: str
    allow_no_tests: bool = False
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Told while it happens. ``should_stop`` is asked all the time."""

    planned: Callable[[GatePlanRecord], None] = lambda record: None
    recorded: Callable[[GateRecord], None] = lambda record: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Gated:
    """All that came of it."""

    plan: GatePlanRecord
    records: tuple[GateRecord, ...]
    verdict: VerdictRecord


class GateRunner:
    """``open_sandbox`` gives the proven sandbox for a slot and raises ParkError(no_sandbox) where none holds.

    ``cache``: base's clean runs are kept in ``artifacts`` by tree, configuration, tier and gate.
    """

    def __init__(
        self,
        slots: Slots,
        open_sandbox: Callable[[Slot], Sandbox],
        environments: Environments,
        artifacts: Artifacts,
        clock: Clock,
        ids: Ids,
        *,
        cache: bool = True,
    ) -> None:
        self._slots = slots
        self._open_sandbox = open_sandbox
        self._environments = environments
        self._artifacts = artifacts
        self._clock = clock
        self._ids = ids
        self._cache = cache

    def run(self, store: BareRepo, job: Job, listener: Listener | None = None) -> Gated:
        """Raises GateConfigError (base's .fleet.toml), ParkError (no sandbox), TemporaryError (nothing was said)."""
        listener = listener or Listener()
        files = tuple(entry.path for entry in store.files(job.base_sha))
        texts = read_texts(store, job.base_sha, files)
        started = self._clock.monotonic()
        checked = gateconfig.parse(texts.get(gateconfig.FILE))
        policy = judge(read_edits(store, job.base_sha, job.head), files, checked.policy)
        seconds = self._clock.monotonic() - started
        by = ""
        if job.approval is not None and job.approval.head == job.head and policy.asks:
            by, policy = job.approval.by, policy.allowed()
        if not policy.passed:
            return self._stopped_by_policy(job, listener, files, texts, policy, seconds)
        prepared = self._environments.prepare(store.path, job.base_sha)
        plan = plans.make_plan(
            files,
            texts,
            programs=offered(prepared),
            environment=prepared.digest,
            allow_no_tests=job.allow_no_tests,
        )
        with self._slots.acquire(f"gates {job.ticket} {job.attempt}") as slot:
            sandbox = self._open_sandbox(slot)
            bench = Bench(store, slot, sandbox, prepared, self._artifacts, self._ids, listener.should_stop)
            course = _Course(self, store, job, plan, bench, prepared, listener)
            course.start()
            course.told(_policy_record(course.record, policy, seconds, by))
            for spec in plan.missing:
                course.told(course.record(spec, Settled(Outcome.NOT_CONFIGURED, f"{spec.argv[0]} is not available")))
            for spec in _in_order(plan.gates):
                course.gate(spec)
            return course.finish(policy)

    def _stopped_by_policy(
        self,
        job: Job,
        listener: Listener,
        files: tuple[str, ...],
        texts: Mapping[str, bytes],
        policy: PolicyResult,
        seconds: float,
    ) -> Gated:
        plan = plans.make_plan(files, texts, programs=frozenset(PROGRAMS), allow_no_tests=job.allow_no_tests)
        course = _Course(self, None, job, plan, None, None, listener)
        course.start()
        course.told(_policy_record(course.record, policy, seconds))
        for spec in plan.gates:
            course.told(course.record(spec, Settled(Outcome.NOT_RUN, "not run, because of policy")))
        return course.finish(policy)

    def draw(self, sides: int) -> int:
        """A number below ``sides`` that code under test cannot foresee."""
        return int(self._ids.hex(8), 16) % sides

    # --- base's runs --------------------------------------------------------------------------------------------

    def base_run(self, bench: Bench, store: BareRepo, spec: GateSpec, job: Job, plan: Plan) -> Run:
        """The run on base, from the cache when a clean one is there."""
        name = f"gates/base/{store.tree(job.base_sha)}/{plan.digest[:16]}-{bench.sandbox.tier.value}-{spec.name}"
        if self._cache:
            with suppress(CodecError):
                kept = self._artifacts.get(f"{name}.json")
                if kept is not None:
                    return decode(kept, Run)
        run = bench.run(spec, job.base_sha, f"{name}.log")
        for variant in range(1, len(VARIANTS)):
            if spec.parser != "pytest" or run.report.health is not Health.BROKEN:
                break
            other = bench.run(spec, job.base_sha, f"{name}.log", variant=variant)
            if other.report.health is Health.CLEAN:
                run = other
        # What a limit or a broken tool said may be this machine's fault today: it is asked again next time.
        if self._cache and run.report.health is Health.CLEAN and run.ending is Ending.EXITED:
            self._artifacts.put(f"{name}.json", encode(run))
        return run


class _Course:
    """One job on its way: collects records and tells them."""

    def __init__(
        self,
        runner: GateRunner,
        store: BareRepo | None,
        job: Job,
        plan: Plan,
        bench: Bench | None,
        prepared: Prepared | None,
        listener: Listener,
    ) -> None:
        self._runner = runner
        self._store = store
        self._job = job
        self._plan = plan
        self._bench = bench
        self._prepared = prepared
        self._listener = listener
        self._records: list[GateRecord] = []
        changes = store.changes(job.base_sha, job.head) if store is not None else ()
        self._changes: tuple[FileChange, ...] = changes
        self._renames = {clean(one.path): clean(one.old_path) for one in changes if one.status == "R"}
        self.plan_record = GatePlanRecord(
            job.ticket,
            job.attempt,
            job.round,
            job.head,
            job.base_sha,
            plan.digest,
            plan.names,
            plan.needed,
            plan.source,
        )

    @property
    def allowed(self) -> bool:
        return self._job.allow_no_tests or self._plan.config.policy.allow_no_tests

    def start(self) -> None:
        self._listener.planned(self.plan_record)

    def told(self, record: GateRecord) -> None:
        self._records.append(record)
        self._listener.recorded(record)

    def gate(self, spec: GateSpec) -> None:
        """Runs one gate on base and H. What the sandbox itself gets wrong is INFRASTRUCTURE, never a pass."""
        if self._listener.should_stop():
            raise TemporaryError("The gates were stopped before they were through.")
        try:
            self.told(self._both_sides(spec))
        except (TemporaryError, InternalError, OSError) as error:
            if self._listener.should_stop():
                raise TemporaryError("The gates were stopped before they were through.") from error
            self.told(self.record(spec, Settled(Outcome.INFRASTRUCTURE, clean(str(error))[:500])))

    def _both_sides(self, spec: GateSpec) -> GateRecord:
        bench, store, job = self._bench, self._store, self._job
        if bench is None or store is None:
            raise InternalError("A gate cannot run without a sandbox.")
        base = self._runner.base_run(bench, store, spec, job, self._plan)
        log = f"{job.folder}/gates/{job.head[:12]}/{spec.name}.log"
        head = bench.run(spec, job.head, log, variant=base.variant)
        settled = verdicts.settle(spec, base, head, self._renames)
        if verdicts.unclear(settled):
            settled = self._again(spec, settled, base, log)
        settled = self._counter_checked(spec, settled, head, log)
        if spec.kind is GateKind.TESTS:
            settled = verdicts.no_test_ran(settled, self.allowed)
        if settled.outcome not in PASSING and self._prepared is not None and self._prepared.problems:
            missing = "; ".join(self._prepared.problems[:_REASONS])
            settled = replace(settled, summary=f"{settled.summary} [environment: {missing}]")
        shown = self._shown_by_new_tests(spec, settled, head, log)
        return self.record(spec, settled, head, shown)

    def _again(self, spec: GateSpec, settled: Settled, base: Run, log: str) -> Settled:
        """Runs new failures once more on H; what passes then, on base too, since flaky means flaky there."""
        bench, job = self._bench, self._job
        names = verdicts.unclear(settled)
        if bench is None or spec.parser != "pytest" or len(names) > _MOST_RERUN:
            return settled
        second = bench.run(spec, job.head, f"{log}.again", variant=base.variant, only=names)
        passed = frozenset(_ids(second, TestStatus.PASSED) & set(names))
        if not passed:
            return settled
        flaky: set[str] = set()
        for number in range(_RERUNS_ON_BASE):
            on_base = bench.run(
                spec, job.base_sha, f"{log}.base{number}", variant=base.variant, only=tuple(sorted(passed))
            )
            flaky |= _ids(on_base, TestStatus.FAILED)
        return verdicts.after_reruns(settled, passed, frozenset(flaky & _ids(base, TestStatus.PASSED)))

    def _counter_checked(self, spec: GateSpec, settled: Settled, head: Run, log: str) -> Settled:
        """Runs what was green once more with a planted failure in each: a test that stays green is forged."""
        bench, job = self._bench, self._job
        green = sorted(_ids(head, TestStatus.PASSED))
        green = [name for name in green if "::" in name]  # what the plugin wrote down, whoever called pytest
        if bench is None or spec.kind is not GateKind.TESTS or settled.outcome not in PASSING or not green:
            return settled
        if head.seconds > _COUNTER_CHECK_ALL_S:
            step = len(green) // _COUNTER_CHECKED + 1
            green = green[self._runner.draw(step) :: step]
        names = tuple(green)
        run = bench.run(spec, job.head, f"{log}.counter", variant=head.variant, only=names, sting=True)
        still = sorted(_ids(run, TestStatus.PASSED) & set(green))
        on_base = None
        if not still and run.report.health is not Health.CLEAN:
            on_base = bench.run(spec, job.base_sha, f"{log}.counter", variant=head.variant, only=names, sting=True)
        return verdicts.counter_checked(settled, still, run, on_base)

    def _shown_by_new_tests(self, spec: GateSpec, settled: Settled, head: Run, log: str) -> tuple[str, ...]:
        """Tests of changed test files that are green on H and red on base's code: they show the change."""
        bench, store, job = self._bench, self._store, self._job
        tests = [one for one in self._changes if is_test_path(one.path) and one.status in "AMR"]
        code = any(not is_test_path(one.path) for one in self._changes)
        if bench is None or store is None or settled.outcome not in PASSING or spec.parser != "pytest":
            return ()
        touched = {clean(one.path) for one in tests if one.path.endswith(".py")}
        green = {name for name in _ids(head, TestStatus.PASSED) if name.partition("::")[0] in touched}
        if not green or not code:
            return ()
        tree = overlay_tree(store, job.base_sha, tests)
        run = bench.run(spec, job.base_sha, f"{log}.reproduced", variant=head.variant, overlay=tree)
        return reproduced(run, green)

    def record(
        self, spec: GateSpec, settled: Settled, head: Run | None = None, shown: tuple[str, ...] = ()
    ) -> GateRecord:
        job, compared = self._job, settled.comparison
        return GateRecord(
            job.ticket,
            job.attempt,
            job.head,
            job.base_sha,
            self._plan.digest,
            spec.name,
            spec.kind,
            spec.mode,
            settled.outcome,
            head.seconds if head is not None else 0.0,
            settled.summary,
            compared.new,
            compared.fixed,
            compared.already_red,
            compared.tests,
            shown,
            " ".join(spec.argv),
            head.log if head is not None else "",
            head.digest if head is not None else "",
            self._bench.sandbox.tier.value if self._bench is not None and head is not None else "",
        )

    def finish(self, policy: PolicyResult) -> Gated:
        known = {record.name for record in self._records}
        for name in self._plan.needed:
            if name not in known:
                spec = GateSpec(name, GateKind.TESTS, Mode.REQUIRED, (), "none")
                self.told(self.record(spec, Settled(Outcome.NOT_CONFIGURED, "the repository has no tests")))
        records = tuple(self._records)
        verdict = verdicts.conclude(
            self.plan_record,
            records,
            policy=policy,
            empty=self._plan.empty,
            allow_no_tests=self.allowed,
            approvals=(self._job.approval,) if self._job.approval is not None else (),
        )
        return Gated(self.plan_record, records, verdict)


def _policy_record(
    record: Callable[[GateSpec, Settled], GateRecord], policy: PolicyResult, seconds: float, by: str = ""
) -> GateRecord:
    spec = GateSpec(POLICY, GateKind.POLICY, Mode.REQUIRED, (), "none")
    said = record(spec, verdicts.policy_settled(policy))
    summary = f"allowed by {clean(by)}; {said.summary}" if by else said.summary
    return replace(said, seconds=round(seconds, 3), summary=summary, allowed_by=by)


def _in_order(gates: tuple[GateSpec, ...]) -> tuple[GateSpec, ...]:
    """The quick ones first."""
    order = [GateKind.LINT, GateKind.TYPES, GateKind.COMMAND, GateKind.TESTS]
    return tuple(sorted(gates, key=lambda gate: order.index(gate.kind)))


def _ids(run: Run, status: TestStatus) -> set[str]:
    return {test.id for test in run.report.tests or () if test.status is status}
