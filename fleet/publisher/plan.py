"""What the publisher decides, without touching anything. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from fleet.core.forge import CommitStatus, StatusState
from fleet.core.gates import Approval, GatePass, GatePlanRecord, GateRecord, NoPass, VerdictRecord, make_pass
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from fleet.publisher.evidence import Evidence, GateEvidence
from fleet.publisher.markdown import title, visible

LABELS = ("fleet",)
REGATES = 2
_STATUS_CHARS = 140


def head_ref(ticket: str, attempt: int) -> str:
    """Where the gates keep H in the fleet's own store."""
    return f"refs/fleet/{ticket}/{attempt}"


def pushed_refs(ticket: str) -> str:
    """Below here the publisher keeps what it pushed, or died pushing."""
    return f"refs/publisher/{ticket}/pushed/"


def pushed_ref(ticket: str, attempt: int, round: int) -> str:
    """Sorts as attempts and rounds follow each other."""
    return f"{pushed_refs(ticket)}{attempt:06d}.{round:06d}"


def pass_for(
    view: TicketView,
    attempt: int,
    head: str,
    plan: GatePlanRecord | None,
    records: Sequence[GateRecord],
    verdict: VerdictRecord | None,
    approvals: Sequence[Approval] = (),
) -> GatePass | NoPass:
    """The pass for ``head``, recomputed from the records alone; the verdict can only take it away (I5)."""
    proof = make_pass(plan, records, head, approvals)
    if isinstance(proof, NoPass):
        return proof
    if (proof.ticket, proof.attempt) != (view.id, attempt):
        return NoPass(("the gate plan is about another ticket or attempt",))
    if verdict is None:
        return NoPass(("no verdict is recorded for this round",))
    if not verdict.passed or verdict.needs:
        return NoPass((f"the verdict says: {verdict.summary}",))
    said = (verdict.ticket, verdict.attempt, verdict.head, verdict.base_sha, verdict.config_digest)
    if said != (proof.ticket, proof.attempt, proof.head, proof.base_sha, proof.config_digest):
        return NoPass(("the verdict is about another commit, base or configuration",))
    if proof.no_tests_ran and not verdict.no_tests_ran:
        return NoPass(("no test ran, and the verdict does not know it",))
    return proof


def parents_fit(parents: Sequence[str], base_sha: str, previous: str) -> bool:
    """H stands on the gated base; in later rounds on the pull request's head, merged with base when that moved."""
    if previous:
        return tuple(parents) in ((previous,), (previous, base_sha))
    return tuple(parents) == (base_sha,)


@dataclass(frozen=True, slots=True)
class BaseMove:
    """How base differs from what was gated. ``paths`` came to base; ``linear``: nothing there was rewritten."""

    behind: int = 0
    linear: bool = True
    paths: frozenset[str] = frozenset()
    conflicts: tuple[str, ...] = ()


class Drift(Enum):
    """KEEP: publish as gated. REGATE: the gates must see the new base."""

    KEEP = "keep"
    REGATE = "regate"


def drift(move: BaseMove, changed: frozenset[str], gate_inputs: frozenset[str], regated: int) -> tuple[Drift, str]:
    """At most ``REGATES`` times: a busy base must not keep a change from its pull request for ever."""
    if not move.behind and move.linear:
        return Drift.KEEP, ""
    if not move.linear:
        why = "the base branch was rewritten"
    elif move.conflicts:
        why = f"the base branch now conflicts in {_some(move.conflicts)}"
    elif both := move.paths & changed:
        why = f"the base branch now changes {_some(sorted(both))}, too"
    elif gate_inputs:
        why = f"the base branch changed what the gates read: {_some(sorted(gate_inputs))}"
    else:
        return Drift.KEEP, ""
    return (Drift.KEEP if regated >= REGATES else Drift.REGATE), why


_INPUTS = frozenset(
    (
        ".fleet.toml",
        "pyproject.toml",
        "setup.cfg",
        "setup.py",
        "tox.ini",
        "pytest.ini",
        "conftest.py",
        "ruff.toml",
        ".ruff.toml",
        "mypy.ini",
        ".mypy.ini",
        "pyrightconfig.json",
        "uv.lock",
        "poetry.lock",
    )
)


def is_gate_input(path: str) -> bool:
    """Whether a change of this file on base can change what the gates say of something else."""
    name = path.rsplit("/", 1)[-1]
    return name in _INPUTS or (name.startswith("requirements") and name.endswith((".txt", ".in")))


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(visible(path, 80) for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"


def pull_request_title(ticket: Ticket) -> str:
    return title(ticket.title) or f"Change for issue {ticket.number}"


def statuses(evidence: Evidence) -> tuple[CommitStatus, ...]:
    """One commit status per gate, ``fleet/<gate>``; an advisory gate never turns one red."""
    return tuple(_status(gate) for gate in evidence.gates[:50])


def _status(gate: GateEvidence) -> CommitStatus:
    good = gate.passed or not gate.needed
    words = (gate.outcome.replace("_", " "), gate.baseline, visible(gate.summary, 100))
    text = visible("; ".join(word for word in words if word), _STATUS_CHARS)
    return CommitStatus(f"fleet/{gate.name}"[:100], StatusState.SUCCESS if good else StatusState.FAILURE, text)


def local_names(branch: str, most: int = 50) -> Iterable[str]:
    """Names to try for the result in a person's repository: the branch, then ``-2``, ``-3`` …"""
    yield branch
    yield from (f"{branch}-{number}" for number in range(2, most + 1))
