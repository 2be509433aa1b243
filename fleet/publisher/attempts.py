"""What became of a ticket's attempts, for the status comment of one that waits for a person or was given up. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fleet.core.digest import useful
from fleet.core.states import State
from fleet.core.story import AttemptStory, telling
from fleet.core.view import TicketView
from fleet.publisher.markdown import cell, code

# Only then is the comment a bundle of evidence; before that people would read about work in progress.
TOLD = frozenset({State.PARKED, State.REJECTED, State.ESCALATED})
_MOST_ATTEMPTS = 20
_MOST_LINES = 24
_MOST_CHARS = 2400


def attempt_lines(
    ticket: str, told: Sequence[AttemptStory], kept: Callable[[int], str] = lambda number: ""
) -> Iterable[str]:
    """A table of the attempts, the last failure's words, and where the last change is. All of it in code spans.

    ``kept``: the artifact that an attempt left, by its number.
    """
    if not told:
        return
    relay = len({one.agent for one in told if one.agent}) > 1
    yield "| Attempt | Ended | Time | Turns | Cost | Change |" + (" Agent |" if relay else "")
    yield "|---|---|---|---|---|---|" + ("---|" if relay else "")
    for one in told[-_MOST_ATTEMPTS:]:
        ended = cell(one.ended.replace("_", " ") or "at work")
        cost = "–" if not one.cost.model_calls else "unknown" if one.cost.unknown else f"${one.cost.usd:.4f}"
        change = one.change
        made = f"{change.files} files, +{change.insertions} −{change.deletions}" if change else "–"
        if change is None and kept(one.number):
            made = "unfinished, kept"
        who = f" {cell(one.agent, 60)} |" if relay else ""
        yield f"| {one.number} | {ended} | {one.seconds:.0f} s | {one.turns} | {cost} | {made} |{who}"
    yield ""
    last = telling(told)
    if last.red:
        yield f"Attempt {last.number} was refused by:"
        yield from (f"- {code(gate, 300)}" for gate in last.red[:10])
        yield ""
    words = [line for line in useful(last.digest, _MOST_CHARS).splitlines() if line.strip()][:_MOST_LINES]
    if words:
        yield f"What attempt {last.number} ended with:"
        yield from (f"- {code(line, 200)}" for line in words)
        yield ""
    yield f"What the attempts left is kept: {code(f'fleet show {ticket}')} prints how to fetch it."
    yield ""


def next_lines(view: TicketView) -> Iterable[str]:
    """What a person can do about a ticket that the fleet gave up."""
    if view.state not in (State.REJECTED, State.ESCALATED):
        return
    yield "What you can do:"
    # Comments are looked at where a label is: elsewhere nobody would answer.
    if view.listens:
        comment = f" or a comment {code('/fleet steer …')}" if view.ticket.label else ""
        steer = f'fleet steer {view.id} "…"'
        yield f"- {code(steer)}{comment} tells the next attempt what was missing; then"
    comment = f" or a comment {code('/fleet retry')}" if view.ticket.label else ""
    yield f"- {code(f'fleet retry {view.id}')}{comment} tries once more, and knows all of this;"
    if view.ticket.label:
        yield f"- put the label {code(view.ticket.label, 60)} on again: a new ticket reads the issue as it is then;"
    yield "- take what is kept and finish it by hand, or close the issue."
    yield ""
