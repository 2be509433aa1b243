"""What stands behind a pull request, as data: ``evidence.json``, from which the texts for people are made. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.core.budget import Cost
from fleet.core.gates import PASSING, Finding, GatePass, GatePlanRecord, GateRecord, Mode, Outcome, TestCounts
from fleet.core.ticket import Criterion
from fleet.core.view import TicketView

VERSION = 1
_FINDINGS = 200
_LISTED = 500
_TEXT = 500
_CRITERIA = 50
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_TICKED = re.compile(r"`([^`]+)`")
_CODE = re.compile(r"\b[A-Z]{1,5}\d{3,4}\b")
_COMMON = frozenset("test tests that this with from when then should must have been does into only also".split())


@dataclass(frozen=True, slots=True)
class CriterionEvidence:
    """``shown_by`` names tests, gates and files; empty means *not shown*, which is not the same as not done."""

    text: str
    ticked_before: bool
    shown_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """One gate. ``needed`` False: its outcome was not asked for. ``baseline`` compares with base in words."""

    name: str
    kind: str
    mode: str
    outcome: str
    needed: bool
    passed: bool
    seconds: float
    summary: str
    baseline: str
    command: str
    already_red: int
    new: tuple[Finding, ...]
    fixed: tuple[Finding, ...]
    tests: TestCounts | None
    reproduced: tuple[str, ...]
    log: str
    digest: str
    tier: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """``head`` is H, gated on ``base_sha``; base had ``behind`` more commits when it was published.

    ``left_out`` are files that the hand-over did not take, ``not_tested`` what no gate looked at.
    """

    v: int
    ticket: str
    tenant: str
    generation: int
    issue: str
    text_hash: str
    attempt: int
    attempts_allowed: int
    round: int
    agent: str
    cost: Cost
    base: str
    base_sha: str
    head: str
    behind: int
    config_digest: str
    plan_source: str
    tier: str
    no_tests_ran: bool
    files: int
    insertions: int
    deletions: int
    criteria: tuple[CriterionEvidence, ...]
    reproduced: tuple[str, ...]
    gates: tuple[GateEvidence, ...]
    left_out: tuple[str, ...]
    not_tested: tuple[str, ...]
    replay: str
    notes: tuple[str, ...] = ()


def build(
    view: TicketView,
    proof: GatePass,
    plan: GatePlanRecord,
    records: Sequence[GateRecord],
    paths: Sequence[str],
    behind: int,
    note: str = "",
) -> Evidence:
    """``paths`` are what H changes against ``proof.base_sha``. Only records of exactly this H are counted."""
    ticket, change = view.ticket, view.change
    mine = [record for record in records if record.head == proof.head and record.name in plan.gates]
    mine.sort(key=lambda record: plan.gates.index(record.name))
    gates = tuple(_gate(record, record.name in plan.needed) for record in mine)
    reproduced = tuple(dict.fromkeys(test for gate in gates for test in gate.reproduced))[:_LISTED]
    return Evidence(
        v=VERSION,
        ticket=ticket.id,
        tenant=ticket.tenant,
        generation=ticket.generation,
        issue=ticket.issue,
        text_hash=ticket.text_hash,
        attempt=proof.attempt,
        attempts_allowed=ticket.limits.attempts,
        round=plan.round,
        agent=view.agent,
        cost=view.cost,
        base=ticket.base,
        base_sha=proof.base_sha,
        head=proof.head,
        behind=behind,
        config_digest=proof.config_digest,
        plan_source=plan.source,
        tier=view.tier,
        no_tests_ran=proof.no_tests_ran,
        files=change.files if change else len(paths),
        insertions=change.insertions if change else 0,
        deletions=change.deletions if change else 0,
        criteria=tuple(criterion(wanted, gates, paths) for wanted in ticket.criteria[:_CRITERIA]),
        reproduced=reproduced,
        gates=gates,
        left_out=(change.left_out if change else ())[:_LISTED],
        not_tested=_not_tested(plan, gates),
        replay=replay_command(ticket.branch, proof.head, proof.base_sha, bool(ticket.local_path)),
        notes=(note,) if note else (),
    )


def replay_command(branch: str, head: str, base_sha: str, fetched: bool = False) -> str:
    """Runs the same gates on the same commit in anybody's clone. ``fetched``: the commit already is in the person's."""
    fetch = "" if fetched else f"git fetch origin {branch} && "
    return f"{fetch}git switch --detach {head} && fleet gates --base {base_sha} ."


def criterion(wanted: Criterion, gates: Sequence[GateEvidence], paths: Sequence[str]) -> CriterionEvidence:
    """What shows it: tests that were red on base, diagnostics that are gone, files named and changed. Never a guess:
    a test counts when its name shares two telling words with the criterion or is named in it."""
    text = wanted.text[:_TEXT]
    words, codes = _words(text), set(_CODE.findall(text))
    tests = [test for gate in gates for test in gate.reproduced][:_LISTED]
    shown = [f"test {test}" for test in tests if _speaks_of(test[-_TEXT:], text, words)]
    for gate in gates:
        gone = [finding.code for finding in gate.fixed if finding.code in codes]
        if gone and gate.passed and not gate.new:
            shown.append(f"gate {gate.name}: {len(gone)} × {', '.join(sorted(set(gone)))} gone")
    named = {name.strip() for name in _TICKED.findall(text) if "." in name or "/" in name}
    shown += [f"diff of {path}" for path in paths if any(path == name or path.endswith("/" + name) for name in named)]
    return CriterionEvidence(wanted.text, wanted.done, tuple(shown[:10]))


def _speaks_of(test: str, text: str, words: set[str]) -> bool:
    name = re.split(r"::|\.", test)[-1].split("[", 1)[0]
    return bool(name) and (name in text or len(_words(name) & words) >= 2)


def _words(text: str) -> set[str]:
    return {word for found in _WORD.findall(text) if len(word := found.lower()) >= 4 and word not in _COMMON}


def _gate(record: GateRecord, needed: bool) -> GateEvidence:
    return GateEvidence(
        name=record.name,
        kind=record.kind.value,
        mode=record.mode.value,
        outcome=record.outcome.value,
        needed=needed,
        passed=record.outcome in PASSING,
        seconds=record.seconds,
        summary=record.summary[:500],
        baseline=baseline(record),
        command=record.command[:500],
        already_red=record.already_red,
        new=record.new[:_FINDINGS],
        fixed=record.fixed[:_FINDINGS],
        tests=record.tests,
        reproduced=record.reproduced[:_LISTED],
        log=record.log,
        digest=record.digest,
        tier=record.tier,
    )


def baseline(record: GateRecord) -> str:
    """For example ``34 fixed, already red: 259``. "unchanged" only when nothing came and nothing went."""
    parts = [f"{len(found)} {word}" for found, word in ((record.new, "new"), (record.fixed, "fixed")) if found]
    if record.already_red:
        parts.append(f"already red: {record.already_red}" + ("" if parts else " (unchanged)"))
    if record.mode is Mode.ADVISORY:
        parts.append("advisory only")
    return ", ".join(parts) or ("same as base" if record.outcome in PASSING else "")


def _not_tested(plan: GatePlanRecord, gates: Sequence[GateEvidence]) -> tuple[str, ...]:
    ran = {gate.name: gate for gate in gates}
    silent = {Outcome.NOT_CONFIGURED.value, Outcome.NOT_RUN.value}
    return tuple(
        f"{name}: {ran[name].outcome.replace('_', ' ') if name in ran else 'no record'}"
        for name in plan.gates
        if name not in ran or ran[name].outcome in silent
    )
