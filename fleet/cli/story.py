"""The attempts of a ticket for ``fleet show``: how each ended, what it cost, and how to fetch what it left."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fleet.core.ports import Artifacts
from fleet.core.story import CHANGE, CHANGE_REF, PARTIAL, AttemptStory, artifact, telling
from fleet.core.view import TicketView

_MOST_LINES = 15


def kept(artifacts: Artifacts, ticket: str, attempt: int) -> tuple[str, Path] | None:
    """(what it is, where it is): the change that was handed over, else what a failed attempt had done by then."""
    for what, words in ((CHANGE, "change"), (PARTIAL, "unfinished change")):
        path = artifacts.path(artifact(ticket, attempt, what))
        if path is not None:
            return words, path
    return None


def fetch_line(view: TicketView, attempt: int, bundle: Path) -> str:
    """The command that brings a kept change into a clone of the repository, as a branch of its own."""
    branch = f"{view.ticket.branch}-attempt-{attempt}"
    return f"git fetch {shlex.quote(str(bundle))} {CHANGE_REF}:{branch}"


def lines(view: TicketView, told: Sequence[AttemptStory], artifacts: Artifacts) -> Iterator[str]:
    """For people. What came from outside is made safe by the printer."""
    relay = len({one.agent for one in told if one.agent}) > 1
    for one in told:
        how = one.ended.replace("_", " ") or "at work"
        facts = [how, f"{one.seconds:.1f} s"] if one.ended else [how]
        facts += _count(one.turns, "turn") + _count(one.calls, "tool call")
        facts += [f"nudged {one.nudges}×"] * bool(one.nudges)
        facts += [f"${one.cost.usd:.4f}"] * bool(one.cost.model_calls)
        facts += [f"by {one.agent}"] * relay
        yield f"attempt {one.number}  {', '.join(facts)}"
        if one.detail and one.detail != view.detail:
            yield f"    {_first(one.detail)}"
        yield from (f"    refused by {_first(gate)}" for gate in one.red)
        left = kept(artifacts, view.id, one.number)
        if left is not None:
            yield f"    {left[0]} kept: {fetch_line(view, one.number, left[1])}"
    last = telling(told) if told and not view.state.active else None
    if last is not None and last.digest:
        yield f"what attempt {last.number} said last:"
        words = [line for line in last.digest.splitlines() if line.strip()]
        yield from (f"    {line[:160]}" for line in words[-_MOST_LINES:])


def rows(view: TicketView, told: Sequence[AttemptStory], artifacts: Artifacts) -> list[dict[str, Any]]:
    """For scripts: ``history`` of the result of ``fleet show --json``."""
    found = []
    for one in told:
        left = kept(artifacts, view.id, one.number)
        found.append(
            {
                "attempt": one.number,
                "ended": one.ended,
                "agent": one.agent,
                "detail": one.detail,
                "digest": one.digest,
                "seconds": round(one.seconds, 3),
                "turns": one.turns,
                "tool_calls": one.calls,
                "nudges": one.nudges,
                "usd": one.cost.usd,
                "refused_by": list(one.red),
                "commit": one.change.commit if one.change else "",
                "bundle": str(left[1]) if left else "",
            }
        )
    return found


def _count(number: int, what: str) -> list[str]:
    return [f"{number} {what}{'s' if number != 1 else ''}"] if number else []


def _first(text: str) -> str:
    line = (text.splitlines() or [""])[0]
    return line if len(line) <= 200 else f"{line[:199]}…"
