"""What a gate's two runs mean, and what all gates together mean. Pure, and fails closed.

Missing, unknown, cut off or forged is never a pass (I5): ``conclude`` takes the pass from ``make_pass`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ci_gates import baseline
from ci_gates.baseline import Comparison
from ci_gates.edits import Breach
from ci_gates.plain import clean
from ci_gates.plan import POLICY
from ci_gates.policy import PolicyResult
from ci_gates.runs import Health, Run
from fleet.core.gates import (
    INFRA,
    PASSING,
    Approval,
    Finding,
    GateKind,
    GatePass,
    GatePlanRecord,
    GateRecord,
    GateSpec,
    Mode,
    Outcome,
    TestCounts,
    make_pass,
)
from fleet.core.gates import VerdictRecord as Verdict
from fleet.core.sandbox import Ending
from fleet.core.states import Reason

_SHOWN = 10
_LIMITS = {
    Ending.MEMORY: "used more memory than it may",
    Ending.DISK: "wrote more to the disk than it may",
    Ending.PROCESSES: "started more processes than it may",
    Ending.OUTPUT: "printed more than it may",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """What one gate says of H."""

    outcome: Outcome
    summary: str
    comparison: Comparison = field(default_factory=Comparison)


def settle(spec: GateSpec, base: Run | None, head: Run, renames: Mapping[str, str] | None = None) -> Settled:
    """Compares the run on H with the run on base (None: there is none, so nothing red is excused)."""
    early = _ended_early(spec, base, head)
    if early is not None:
        return early
    if head.report.health is Health.BROKEN:
        return _broken(spec, base, head)
    usable = base if base is not None and base.report.health is Health.CLEAN and _ran(base) else None
    if head.report.tests is not None:
        known = usable.report.tests if usable is not None else None
        return _judged(spec, usable, baseline.tests(known or (), head.report.tests, renames))
    before = usable.report.diagnostics if usable is not None else ()
    return _judged(spec, usable, baseline.diagnostics(before, head.report.diagnostics, renames))


def _ran(run: Run) -> bool:
    return run.ending in (Ending.EXITED, Ending.SIGNALED)


def _ended_early(spec: GateSpec, base: Run | None, head: Run) -> Settled | None:
    if head.ending is Ending.TIMED_OUT:
        return Settled(Outcome.TIMED_OUT, f"not finished after {spec.seconds:g} s")
    if head.ending is Ending.CANCELLED:
        return Settled(Outcome.NOT_RUN, "cancelled")
    if head.ending is Ending.NOT_FOUND:
        word = spec.argv[0] if spec.argv else "the command"
        if base is None or base.ending is Ending.NOT_FOUND:
            return Settled(Outcome.NOT_CONFIGURED, f"{word} is not in the repository's environment")
        return Settled(Outcome.FAILED, f"{word} is no longer found")
    if head.ending in _LIMITS:
        return Settled(Outcome.FAILED, f"the command {_LIMITS[head.ending]}")
    if head.report.health in (Health.FORGED, Health.UNREADABLE):
        return Settled(Outcome.FAILED, head.report.problem)
    return None


def _broken(spec: GateSpec, base: Run | None, head: Run) -> Settled:
    tests = TestCounts() if spec.kind is GateKind.TESTS else None
    finding = Finding("", 0, spec.name, head.report.problem[:400])
    if base is not None and _ran(base) and base.report.health is Health.BROKEN and spec.mode is not Mode.REQUIRED:
        text = f"could not run, on base neither: {head.report.problem}"
        return Settled(Outcome.ALREADY_RED, text, Comparison((), (), 1, tests))
    return Settled(Outcome.FAILED, f"could not run: {head.report.problem}", Comparison((finding,), (), 0, tests))


def _judged(spec: GateSpec, base: Run | None, compared: Comparison) -> Settled:
    if spec.mode is Mode.REQUIRED and compared.red:
        total = len(compared.new) + compared.already_red
        text = f"{total} red, and this gate must be absolutely green" + _list(compared.new)
        return Settled(Outcome.FAILED, text, compared)
    if compared.new:
        text = f"{len(compared.new)} new" + _list(compared.new) + _already(compared)
        return Settled(Outcome.FAILED, text, compared)
    counts = _counts(compared.tests)
    if compared.already_red:
        return Settled(Outcome.ALREADY_RED, f"nothing new{_already(compared)}{counts}", compared)
    if compared.fixed or (base is not None and not base.green and base.report.health is Health.CLEAN):
        return Settled(Outcome.FIXED, f"{len(compared.fixed)} fixed, none left{counts}", compared)
    return Settled(Outcome.PASSED, f"green{counts}", compared)


def _already(compared: Comparison) -> str:
    return f" ({compared.already_red} already red on base)" if compared.already_red else ""


def _counts(tests: TestCounts | None) -> str:
    return "" if tests is None else f", {tests.passed} of {tests.total} tests passed, {tests.skipped} skipped"


def _list(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    shown = "; ".join(described(finding) for finding in findings[:_SHOWN])
    more = f"; and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
    return f": {shown}{more}"


def described(finding: Finding) -> str:
    """One finding in one line: ``src/a.py:3 F401 message`` or ``tests/test_a.py::test_b: message``."""
    if not finding.path or finding.code.startswith(finding.path):
        return f"{finding.code}: {finding.message}"
    line = f":{finding.line}" if finding.line else ""
    return f"{finding.path}{line} {finding.code} {finding.message}"


def unclear(settled: Settled) -> tuple[str, ...]:
    """Ids of tests whose new failure deserves a second run: real failures only, never skipped or vanished ones."""
    if settled.outcome is not Outcome.FAILED or settled.comparison.tests is None:
        return ()
    excused = ("ran on base and is gone", "is now skipped", "is now xfailed")
    return tuple(one.code for one in settled.comparison.new if "::" in one.code and not one.message.endswith(excused))


def after_reruns(settled: Settled, passed_again: frozenset[str], flaky_on_base: frozenset[str]) -> Settled:
    """A failure is flaky only if it went away on H *and* the same test is flaky on base; else it stays red."""
    new = settled.comparison.new
    left = tuple(one for one in new if not (one.code in passed_again and one.code in flaky_on_base))
    compared = replace(settled.comparison, new=left)
    if not left and new:
        names = ", ".join(one.code for one in new[:_SHOWN])
        return Settled(Outcome.FLAKY, f"flaky on base too: {names}{_counts(compared.tests)}", compared)
    sometimes = sum(one.code in passed_again for one in left)
    note = f" ({sometimes} of them passed when run again, but are not flaky on base)" if sometimes else ""
    return Settled(Outcome.FAILED, f"{len(left)} new{_list(left)}{_already(compared)}{note}", compared)


def counter_checked(settled: Settled, still_green: Sequence[str], head: Run, base: Run | None) -> Settled:
    """``still_green``: tests that looked green with a failure in place of their body. Nothing excuses one.

    A counter-check that ends before it is through is excused only where base's ends so too.
    """
    if still_green:
        text = f"{len(still_green)} tests look green whatever they do: {', '.join(still_green[:_SHOWN])}"
        return replace(settled, outcome=Outcome.FAILED, summary=text)
    if head.report.health is Health.CLEAN or (base is not None and base.report.health is not Health.CLEAN):
        return settled
    text = f"the tests could not be counter-checked: {head.report.problem}"
    return replace(settled, outcome=Outcome.FAILED, summary=text)


def no_test_ran(settled: Settled, allowed: bool) -> Settled:
    """A test gate in which nothing ran is not green, unless somebody said beforehand that this is all right."""
    tests = settled.comparison.tests
    if settled.outcome not in PASSING or tests is None or tests.total > tests.skipped:
        return settled
    if allowed:
        return replace(settled, summary=f"no test ran ({settled.summary})")
    return replace(settled, outcome=Outcome.NOT_CONFIGURED, summary=f"no test ran ({settled.summary})")


def policy_settled(result: PolicyResult) -> Settled:
    hard = (*result.refused, *result.asks)
    findings = tuple(_breach(one) for one in hard)
    told = [one for one in result.breaches if one not in hard]
    notes = _list([_breach(one) for one in told])
    if not hard:
        return Settled(Outcome.PASSED, f"nothing against it{'; told' + notes if notes else ''}")
    who = "refused" if result.refused else "a person must allow it"
    return Settled(Outcome.FAILED, f"{who}{_list(findings)}", Comparison(findings))


def _breach(one: Breach) -> Finding:
    return Finding(clean(one.path), one.line, one.code, clean(one.message))


def conclude(
    plan: GatePlanRecord,
    records: Sequence[GateRecord],
    *,
    policy: PolicyResult,
    empty: bool,
    allow_no_tests: bool,
    approvals: Sequence[Approval] = (),
) -> Verdict:
    """The verdict for (ticket, attempt, round). ``empty``: the plan has no gate that could be red but policy."""
    proof = make_pass(plan, records, plan.head, approvals)
    silent = not any(record.tests is not None and record.tests.total > record.tests.skipped for record in records)
    verdict = Verdict(
        plan.ticket, plan.attempt, plan.round, plan.head, plan.base_sha, plan.config_digest, False, "", silent
    )
    if not policy.passed:
        record = next((one for one in records if one.name == POLICY), None)
        needs = "" if policy.refused else Reason.APPROVAL.value
        return replace(verdict, summary=f"policy: {record.summary if record else 'no record'}", needs=needs)
    if empty:
        text = "No gate can be found for this repository: add tests, or name gates in .fleet.toml of the base branch."
        return replace(verdict, summary=text, needs=Reason.NO_GATES.value)
    against = [record for record in records if record.name in plan.needed and record.outcome not in PASSING]
    if isinstance(proof, GatePass):
        if silent and not allow_no_tests:
            return replace(verdict, summary=_NO_TESTS, needs=Reason.NO_GATES.value)
        return replace(verdict, passed=True, summary=_all_green(plan, records, silent))
    red = [record for record in against if record.outcome not in INFRA and not _untested(record)]
    if red or not against:
        reasons = [f"{one.name}: {one.summary}" for one in red] or list(proof.reasons)
        return replace(verdict, summary="; ".join(reasons), needs=_config(red))
    if any(record.outcome in INFRA for record in against):
        text = "; ".join(f"{one.name}: {one.summary}" for one in against)
        return replace(verdict, summary=text, infrastructure=True)
    return replace(verdict, summary=_NO_TESTS, needs=Reason.NO_GATES.value)


_NO_TESTS = "No test ran: add tests to the base branch, or write allow_no_tests = true below [policy] in .fleet.toml."


def _untested(record: GateRecord) -> bool:
    """Not red, but nothing ran: a person decides."""
    return record.outcome is Outcome.NOT_CONFIGURED and record.kind is GateKind.TESTS


def _config(red: Sequence[GateRecord]) -> str:
    """When all that is red is commands that base's environment has not, the configuration is at fault."""
    return Reason.CONFIG.value if red and all(one.outcome is Outcome.NOT_CONFIGURED for one in red) else ""


def _all_green(plan: GatePlanRecord, records: Sequence[GateRecord], silent: bool) -> str:
    needed = [record for record in records if record.name in plan.needed]
    text = ", ".join(f"{record.name} {record.outcome.value.replace('_', ' ')}" for record in needed)
    return f"{'NO TESTS RAN; ' if silent else ''}{text}"
