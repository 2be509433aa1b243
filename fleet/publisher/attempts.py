"""What became of a ticket's attempts, for the status comment of one that waits for a person or was given up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleet.core.states import State
from fleet.core.story import AttemptStory
from fleet.publisher.markdown import cell, code

# Only then is the comment a bundle of evidence; before that people would read about work in progress.
TOLD = frozenset({State.PARKED, State.REJECTED, State.ESCALATED})
_MOST_ATTEMPTS = 20
_MOST_LINES = 12


def attempt_lines(ticket: str, told: Sequence[AttemptStory]) -> Iterable[str]:
    """A table of the attempts, the last failure's words, and where the last change is. All of it in code spans."""
    if not told:
        return
    yield "| Attempt | Ended | Time | Turns | Cost | Change |"
    yield "|---|---|---|---|---|---|"
    for one in told[-_MOST_ATTEMPTS:]:
        ended = cell(one.ended.replace("_", " ") or "at work")
        cost = "–" if not one.cost.model_calls else "unknown" if one.cost.unknown else f"${one.cost.usd:.4f}"
        change = one.change
        made = f"{change.files} files, +{change.insertions} −{change.deletions}" if change else "–"
        yield f"| {one.number} | {ended} | {one.seconds:.0f} s | {one.turns} | {cost} | {made} |"
    yield ""
    last = told[-1]
    if last.red:
        yield "Refused by:"
        yield from (f"- {code(gate, 300)}" for gate in last.red[:10])
        yield ""
    words = [line for line in last.digest.splitlines() if line.strip()][-_MOST_LINES:]
    if words:
        yield f"The end of what attempt {last.number} said:"
        yield from (f"- {code(line, 200)}" for line in words)
        yield ""
    yield f"What the attempts left is kept: {code(f'fleet show {ticket}')} prints how to fetch it."
    yield ""
