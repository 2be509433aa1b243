"""A conversation with a model, free of any vendor: what was said, and what follows from a reply. Pure.

The beginning never changes and old entries change only when the whole outgrows its window, so that a provider's cache
of the prefix stays good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

FINISH = "finish"
ASK = "ask_person"
_KEPT_TURNS = 6
_SHORT = 400


class Stop(Enum):
    """Why the model stopped talking. LENGTH: its answer was cut off by the limit on output."""

    TURN = "turn"
    LENGTH = "length"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool. ``error``: why its input cannot be used; then it is answered, never carried out."""

    id: str
    tool: str
    input: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What the model is told about one call."""

    id: str
    text: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """Words for the model: the task, a nudge, a person's steering."""

    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``native`` is the vendor's own form, which must be sent back as it came."""

    text: str
    calls: tuple[Call, ...]
    stop: Stop
    native: Any = None


@dataclass(frozen=True, slots=True)
class Results:
    results: tuple[Result, ...]


Entry = Said | Reply | Results


class Next(Enum):
    """What follows a reply."""

    TOOLS = "tools"
    SAY = "say"
    DONE = "done"
    ASKS = "asks"
    REFUSED = "refused"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Step:
    """``text`` for SAY: what the model is told; for DONE: its summary, for ASKS the question; otherwise
    the reason.
    """

    next: Next
    text: str = ""


EMPTY = "Your answer was empty. Go on with the task: use a tool, or call finish when the change is complete."
CUT = "Your answer was cut off because it was too long. Go on from there in smaller steps."
NO_FINISH = (
    "You used no tool. If the change is complete, call finish with a summary; otherwise go on. "
    "Nobody reads this: decide yourself and say so in the summary."
)
_PATIENCE = 3


def after(reply: Reply, idle: int) -> Step:
    """What follows ``reply``. ``idle``: how many replies in a row, this one included, used no tool."""
    alone = reply.calls[0] if len(reply.calls) == 1 and not reply.calls[0].error else None
    if reply.stop is Stop.REFUSED:
        return Step(Next.REFUSED, reply.text[:500] or "The model refused the task.")
    if alone is not None and alone.tool == FINISH:
        return Step(Next.DONE, str(alone.input.get("summary", "")))
    if alone is not None and alone.tool == ASK and str(alone.input.get("question", "")).strip():
        return Step(Next.ASKS, str(alone.input["question"]).strip())
    if reply.calls:
        return Step(Next.TOOLS)
    if idle >= _PATIENCE:
        return Step(Next.STUCK, f"The model answered {idle} times in a row without using a tool.")
    if reply.stop is Stop.LENGTH:
        return Step(Next.SAY, CUT)
    return Step(Next.SAY, NO_FINISH if reply.text.strip() else EMPTY)


def size(entries: Sequence[Entry]) -> int:
    """Characters of the whole, as a measure of its tokens."""
    return sum(_size(entry) for entry in entries)


def _size(entry: Entry) -> int:
    match entry:
        case Said(text=text):
            return len(text)
        case Reply(text=text, calls=calls):
            return len(text) + sum(len(str(call.input)) for call in calls)
        case Results(results=results):
            return sum(len(result.text) for result in results)


def compact(entries: Sequence[Entry], most: int) -> tuple[Entry, ...]:
    """The same conversation below ``most`` characters, if that can be: old results of tools become one line each.

    The last turns stay whole. What is cut is cut in one go, so that the new prefix is good for many turns again.
    """
    if size(entries) <= most:
        return tuple(entries)
    replies = [at for at, entry in enumerate(entries) if isinstance(entry, Reply)]
    border = replies[-_KEPT_TURNS] if len(replies) > _KEPT_TURNS else len(entries) - 2
    return tuple(_shortened(entry) if at < border else entry for at, entry in enumerate(entries))


def _shortened(entry: Entry) -> Entry:
    if not isinstance(entry, Results):
        return entry
    return Results(tuple(_line(result) for result in entry.results))


def _line(result: Result) -> Result:
    if len(result.text) <= _SHORT:
        return result
    digest = hashlib.sha256(result.text.encode()).hexdigest()[:12]
    kept = result.text[: _SHORT // 2]
    note = f"[{len(result.text)} characters, sha256 {digest}; left out to save room: call the tool again if needed]"
    return replace(result, text=f"{kept}\n{note}")
