"""The texts for people: the body of the pull request and the status comment. Pure; every untrusted word in a span."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fleet.core.budget import Cost
from fleet.core.forge import pull_request_marker
from fleet.core.states import State
from fleet.core.story import AttemptStory
from fleet.core.view import TicketView
from fleet.publisher.asking import ask_lines
from fleet.publisher.attempts import attempt_lines, next_lines
from fleet.publisher.evidence import Evidence, GateEvidence
from fleet.publisher.markdown import cap, cell, code

MOST_BYTES = 60_000
BEGIN = "<!-- fleet:evidence -->"
END = "<!-- fleet:end-of-evidence -->"
_CUT = "*This text was cut; `evidence.json` has all of it.*"
_WORDS = {
    "passed": "✅ passed",
    "fixed": "✅ fixed",
    "already_red": "🟡 already red",
    "flaky": "🟡 flaky on base, too",
    "failed": "❌ failed",
    "timed_out": "❌ timed out",
    "infrastructure": "⚪ could not run",
    "not_configured": "⚪ not configured",
    "not_run": "⚪ not run",
}


def pull_request_body(evidence: Evidence) -> str:
    """At most 60 kB. What stands between ``BEGIN`` and ``END`` is the fleet's; people may write around it."""
    head = f"{pull_request_marker(evidence.ticket)}attempt={evidence.attempt} -->\n{BEGIN}\n"
    text = cap("\n".join(_sections(evidence)), MOST_BYTES - len(head) - len(END) - 2, _CUT)
    return f"{head}{text}\n{END}"


def merged_body(old: str, new: str) -> str:
    """``new`` for the pull request whose body is ``old``: what people wrote around the evidence stays."""
    old = old.replace("\r\n", "\n")
    before, begun, rest = old.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended or not before.startswith("<!-- fleet:ticket="):
        return new
    kept = before.split("\n", 1)[1] if "\n" in before else ""
    first, _, body = new.partition("\n")
    return cap(f"{first}\n{kept}{body}{after}", MOST_BYTES, _CUT)


def _sections(evidence: Evidence) -> Iterable[str]:
    if evidence.no_tests_ran:
        yield "# ⚠️ NO TESTS RAN\n\nNo test ran on this commit: nothing shows that it works.\n"
    number = evidence.issue.rsplit("#", 1)[-1]
    yield f"Closes #{number}.\n"
    yield _facts(evidence)
    yield "\n### Gates\n"
    yield from _gate_table(evidence.gates)
    yield from _criteria(evidence)
    if evidence.reproduced:
        yield "\n### Reproduced\n\nRed on base, green on this commit:\n"
        yield from _list(evidence.reproduced, 30)
    yield from _findings(evidence.gates)
    yield from _left_out(evidence)
    yield from (f"\n**Note:** {code(note, 400)}\n" for note in evidence.notes)
    yield "\n### Check it yourself\n"
    yield f"```sh\n{evidence.replay}\n```\n"
    yield f"Ticket {code(evidence.ticket)} · gate configuration {code(evidence.config_digest[:16])}"


def _facts(evidence: Evidence) -> str:
    size = f"{_count(evidence.files, 'file')}, +{evidence.insertions} −{evidence.deletions}"
    late = f", {_count(evidence.behind, 'commit')} behind it when published" if evidence.behind else ""
    rows = (
        f"**Commit** {code(evidence.head)} ({size})",
        f"**Gated on** {code(evidence.base)} at {code(evidence.base_sha)}{late}",
        f"**Agent** {code(evidence.agent, 300)} · attempt {evidence.attempt} of {evidence.attempts_allowed}"
        f" · {cost_words(evidence.cost)}" + (f" · sandbox {code(evidence.tier)}" if evidence.tier else ""),
    )
    return "  \n".join(rows)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def cost_words(cost: Cost) -> str:
    """What was spent, for people."""
    if not cost.model_calls and not cost.usd:
        return "no model was called"
    price = "cost unknown" if cost.unknown else f"${cost.usd:.2f}"
    return f"{price}, {cost.input_tokens} tokens in, {cost.output_tokens} out"


def _gate_table(gates: Iterable[GateEvidence]) -> Iterable[str]:
    yield "| Gate | Outcome | Against base | Result | Time | Log |"
    yield "|---|---|---|---|---|---|"
    for gate in list(gates)[:50]:
        outcome = _WORDS.get(gate.outcome, cell(gate.outcome)) + ("" if gate.needed else " (not required)")
        result = tests_words(gate) or cell(gate.summary)
        digest = cell(gate.digest.removeprefix("sha256:")[:12]) if gate.digest else "–"
        cells = (cell(gate.name, 60), outcome, gate.baseline or "–", result, f"{gate.seconds:.1f} s", digest)
        yield f"| {' | '.join(cells)} |"


def tests_words(gate: GateEvidence) -> str:
    """Counts of tests, empty for a gate without any."""
    if gate.tests is None:
        return ""
    counts = gate.tests
    return f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped"


def _criteria(evidence: Evidence) -> Iterable[str]:
    if not evidence.criteria:
        return
    yield "\n### Acceptance criteria\n"
    for wanted in evidence.criteria[:50]:
        shown = ", ".join(code(by, 160) for by in wanted.shown_by[:3])
        yield f"- {code(wanted.text, 200)}: " + (f"shown by {shown}" if shown else "**not shown**")


def _findings(gates: Iterable[GateEvidence]) -> Iterable[str]:
    new = [(gate, finding) for gate in gates for finding in gate.new]
    if not new:
        return
    yield "\n### New findings that were not required to be absent\n"
    for gate, finding in new[:20]:
        yield f"- {code(gate.name, 60)} {code(f'{finding.path}:{finding.line} {finding.code} {finding.message}', 200)}"
    if len(new) > 20:
        yield f"- and {len(new) - 20} more in `evidence.json`"


def _left_out(evidence: Evidence) -> Iterable[str]:
    if evidence.left_out:
        yield "\n### Left out of the change\n\nNew files that the repository ignores or that are litter of tools:\n"
        yield from _list(evidence.left_out, 20)
    if evidence.not_tested:
        yield "\n### Not tested\n"
        yield from _list(evidence.not_tested, 20)


def _list(items: tuple[str, ...], most: int) -> Iterable[str]:
    yield from (f"- {code(item, 160)}" for item in items[:most])
    if len(items) > most:
        yield f"- and {len(items) - most} more in `evidence.json`"


# --- the status comment --------------------------------------------------------------------------------------------

_STATES = {
    State.QUEUED: "waiting for a free place",
    State.STARTING: "starting",
    State.RUNNING: "working on it",
    State.GATING: "checking the change",
    State.PUBLISHING: "opening the pull request",
    State.IN_REVIEW: "in review",
    State.BACKING_OFF: "waiting before the next try",
    State.PARKED: "parked: a person must decide",
    State.MERGED: "merged",
    State.CLOSED: "closed",
    State.CANCELLED: "cancelled",
    State.REJECTED: "not passed",
    State.ESCALATED: "given up: a person must look",
}


def status_comment(
    view: TicketView,
    first_line: str,
    notes: Iterable[str] = (),
    attempts: Sequence[AttemptStory] = (),
    kept: Callable[[int], str] = lambda number: "",
) -> str:
    """``first_line`` is the sealed state (see ``sealing``); the rest is for people."""
    lines = [first_line, f"**Fleet:** {_STATES[view.state]} ({view.reason.value.replace('_', ' ')})", ""]
    if view.detail:
        lines += [code(view.detail, 400), ""]
    lines += ask_lines(view)
    lines += [*(f"- {code(answer, 500)}" for answer in view.answers), ""] if view.answers else []
    if view.pull_request is not None:
        lines += [f"Pull request #{view.pull_request.number}", ""]
    if view.gates:
        lines += ["| Gate | Outcome | Time |", "|---|---|---|"]
        for gate in view.gates[:50]:
            outcome = _WORDS.get(gate.outcome, cell(gate.outcome))
            lines.append(f"| {cell(gate.name, 60)} | {outcome} | {gate.seconds:.1f} s |")
        lines.append("")
    lines += attempt_lines(view.id, attempts, kept)
    lines += next_lines(view)
    lines.append(f"Agent {code(view.agent, 300)} · {_count(view.attempt, 'attempt')} · {cost_words(view.cost)}")
    lines += [f"- {code(note, 300)}" for note in notes]
    return cap("\n".join(lines), MOST_BYTES, _CUT)
