"""Gates, their records, and the pass without which nothing is pushed.

A gate runs on H (the one commit that would be pushed) and on base. The verdict compares the two. Everything missing,
unknown or unfinished counts as not passed. ``make_pass`` is the only place that makes a ``GatePass`` (I5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fleet.core.errors import InternalError


class GateKind(Enum):
    LINT = "lint"
    TYPES = "types"
    TESTS = "tests"
    POLICY = "policy"
    COMMAND = "command"


class Mode(Enum):
    """How much a gate demands. REQUIRED: absolutely green. NO_REGRESSION: nothing new is red. ADVISORY: told only."""

    REQUIRED = "required"
    NO_REGRESSION = "no_regression"
    ADVISORY = "advisory"


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    ALREADY_RED = "already_red"
    FIXED = "fixed"
    FLAKY = "flaky"
    INFRASTRUCTURE = "infrastructure"
    TIMED_OUT = "timed_out"
    NOT_CONFIGURED = "not_configured"
    NOT_RUN = "not_run"


# FLAKY is in here only because the verdict gives it to tests that are flaky on base too.
PASSING = frozenset({Outcome.PASSED, Outcome.ALREADY_RED, Outcome.FIXED, Outcome.FLAKY})
# These say nothing about the change: the gates run again, the agent is not to blame.
INFRA = frozenset({Outcome.INFRASTRUCTURE, Outcome.NOT_RUN})


@dataclass(frozen=True, slots=True)
class GateSpec:
    """One gate of the plan. ``parser`` names how its output is read (fleet's table in ``ci_gates.parsers``)."""

    name: str
    kind: GateKind
    mode: Mode
    argv: tuple[str, ...]
    parser: str
    seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One new or fixed thing: a diagnostic (path, line, code) or a test (``code`` is the test's id)."""

    path: str
    line: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TestCounts:
    """How many tests ended how, on H. ``total`` 0 means that no test ran."""

    __test__ = False  # not a pytest class

    total: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class GatePlanRecord:
    """What must pass for this H; written before the first gate runs. ``gates`` are names, policy included."""

    ticket: str
    attempt: int
    round: int
    head: str
    base_sha: str
    config_digest: str
    gates: tuple[str, ...]
    needed: tuple[str, ...]
    source: str = "detected"


@dataclass(frozen=True, slots=True)
class GateRecord:
    """What one gate said of H. ``log`` is an artifact reference, ``digest`` the SHA-256 of that log.

    ``allowed_by``: the person without whose approval policy would not have let this commit pass.
    """

    ticket: str
    attempt: int
    head: str
    base_sha: str
    config_digest: str
    name: str
    kind: GateKind
    mode: Mode
    outcome: Outcome
    seconds: float
    summary: str
    new: tuple[Finding, ...] = ()
    fixed: tuple[Finding, ...] = ()
    already_red: int = 0
    tests: TestCounts | None = None
    reproduced: tuple[str, ...] = ()
    command: str = ""
    log: str = ""
    digest: str = ""
    tier: str = ""
    allowed_by: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """``by`` allows what policy asks about in exactly this commit of this attempt. ``at``: Unix time."""

    ticket: str
    attempt: int
    head: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """The gates' own conclusion for (ticket, attempt, round), stored before it is told.

    The supervisor steers by it; the publisher does not believe it and recomputes the pass from the records.
    ``needs`` is a ParkReason value when a person must decide (empty: nobody).
    """

    ticket: str
    attempt: int
    round: int
    head: str
    base_sha: str
    config_digest: str
    passed: bool
    summary: str
    no_tests_ran: bool = False
    needs: str = ""
    infrastructure: bool = False


_SEAL = object()


@dataclass(frozen=True, slots=True)
class GatePass:
    """Permission as a value: whoever pushes must hold one. Binds ticket, attempt, H, base and gate config."""

    ticket: str
    attempt: int
    head: str
    base_sha: str
    config_digest: str
    no_tests_ran: bool
    seal: Any = None

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise InternalError("A GatePass is made by make_pass only.")


@dataclass(frozen=True, slots=True)
class NoPass:
    """Why there is no pass, gate by gate."""

    reasons: tuple[str, ...]


def make_pass(
    plan: GatePlanRecord | None, records: Sequence[GateRecord], head: str, approvals: Sequence[Approval] = ()
) -> GatePass | NoPass:
    """The pass for ``head``, or every reason against it. Pure; fails closed.

    Each name in ``plan.needed`` must have exactly one record that speaks of the same ticket, attempt, H, base and
    config as the plan, with a passing outcome. Records beyond the plan never help. One that passed because a person
    allowed it needs that person's approval of exactly this commit among ``approvals``.
    """
    if plan is None:
        return NoPass(("no gate plan is recorded for this commit",))
    if plan.head != head:
        return NoPass((f"the plan is for {plan.head[:12]}, not for {head[:12]}",))
    if not plan.needed:
        return NoPass(("the plan needs no gate, which proves nothing",))
    reasons = [reason for name in plan.needed if (reason := _against(name, plan, records, approvals))]
    if reasons:
        return NoPass(tuple(reasons))
    return GatePass(
        plan.ticket, plan.attempt, head, plan.base_sha, plan.config_digest, not any_test_ran(records), seal=_SEAL
    )


def _against(name: str, plan: GatePlanRecord, records: Sequence[GateRecord], approvals: Sequence[Approval]) -> str:
    mine = [record for record in records if record.name == name]
    if len(mine) != 1:
        return f"{name}: {'no record' if not mine else 'more than one record'}"
    record = mine[0]
    expected = (plan.ticket, plan.attempt, plan.head, plan.base_sha, plan.config_digest)
    if (record.ticket, record.attempt, record.head, record.base_sha, record.config_digest) != expected:
        return f"{name}: its record is about another commit, base or configuration"
    if record.outcome not in PASSING:
        return f"{name}: {record.outcome.value}"
    if record.mode is Mode.REQUIRED and record.outcome is Outcome.ALREADY_RED:
        return f"{name}: red, and the plan demands absolutely green"
    if record.allowed_by and not any(_allows(one, plan, record.allowed_by) for one in approvals):
        return f"{name}: it says that {record.allowed_by} allowed this commit, and no such approval is on record"
    return ""


def _allows(one: Approval, plan: GatePlanRecord, by: str) -> bool:
    return (one.ticket, one.attempt, one.head, one.by) == (plan.ticket, plan.attempt, plan.head, by)


def any_test_ran(records: Sequence[GateRecord]) -> bool:
    return any(record.tests is not None and record.tests.total > record.tests.skipped for record in records)
