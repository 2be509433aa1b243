"""Scripts of the rehearsal model: what it says in which turn, and what goes wrong. Pure.

A script is TOML: ``[[turn]]`` tables in order, each with ``text``, calls of tools (``[[turn.call]]`` with ``tool`` and
``input``) or a ``fault``. docs/rehearsal.md explains every key. The model keeps no state: which turn it is follows from
the conversation that it is sent, and which attempt from what the gateway says.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fleet.core.errors import UsageError

_ATTEMPTS = re.compile(r"([1-9]\d*)(\+?)")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class Fault(Enum):
    """What goes wrong instead of, or in, an answer."""

    STALL = "stall"  # nothing at all, not even headers
    SILENCE = "silence"  # headers and a beginning, then nothing
    CUT = "cut"  # the connection ends in the middle
    STATUS = "status"  # an HTTP error: ``status`` and ``retry_after``
    MALFORMED = "malformed"  # a tool call whose input is no valid JSON
    HUGE = "huge"  # ``bytes`` of text


@dataclass(frozen=True, slots=True)
class ToolUse:
    tool: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """``unless``: the fault does not happen once the conversation says this. ``repeat``: this turn for ever."""

    text: str = ""
    calls: tuple[ToolUse, ...] = ()
    fault: Fault | None = None
    unless: str = ""
    seconds: float = 3600.0
    status: int = 500
    retry_after: float | None = None
    size: int = 0
    repeat: bool = False
    first: int = 1
    last: int = 10**9


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    title: str
    turns: tuple[Turn, ...]

    def turn(self, number: int, attempt: int) -> Turn:
        """The ``number``-th turn (0 is the first) of ``attempt``; after the last one the model has nothing to add."""
        mine = [turn for turn in self.turns if turn.first <= attempt <= turn.last]
        for at, turn in enumerate(mine):
            if at == number or turn.repeat:
                return turn
        return Turn("I have nothing to add.")


def parse(text: str, name: str) -> Script:
    """Raises UsageError that names the turn and the key."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The script {name} is no valid TOML: {error}.", "Correct that line.") from error
    _known(data, ("title", "turn"), f"The script {name}")
    turns = data.get("turn", [])
    if not isinstance(turns, list) or not turns:
        raise UsageError(f"The script {name} has no turns.", "Write at least one [[turn]].")
    parsed = tuple(_turn(row, f"Turn {number} of the script {name}") for number, row in enumerate(turns, 1))
    return Script(name, str(data.get("title", name)), parsed)


def _turn(row: Mapping[str, Any], where: str) -> Turn:
    keys = ("text", "call", "fault", "unless", "seconds", "status", "retry_after", "bytes", "repeat", "attempts")
    _known(row, keys, where)
    fault = row.get("fault")
    faults = [one.value for one in Fault]
    if fault is not None and fault not in faults:
        raise UsageError(f"{where}: there is no fault {fault!r}.", f"Known are: {', '.join(faults)}.")
    first, last = _attempts(row.get("attempts", "1+"), where)
    calls = row.get("call", [])
    return Turn(
        text=str(row.get("text", "")),
        calls=tuple(_call(one, where) for one in calls),
        fault=Fault(fault) if fault else None,
        unless=str(row.get("unless", "")),
        seconds=float(row.get("seconds", 3600.0)),
        status=int(row.get("status", 500)),
        retry_after=float(row["retry_after"]) if "retry_after" in row else None,
        size=int(row.get("bytes", 0)),
        repeat=bool(row.get("repeat", False)),
        first=first,
        last=last,
    )


def _call(row: Any, where: str) -> ToolUse:
    if (
        not isinstance(row, Mapping)
        or not isinstance(row.get("tool"), str)
        or not isinstance(row.get("input", {}), dict)
    ):
        raise UsageError(f"{where}: a call needs a tool and an input.", 'Write tool = "shell", input = { … }.')
    _known(row, ("tool", "input"), where)
    return ToolUse(row["tool"], row.get("input", {}))


def _attempts(value: Any, where: str) -> tuple[int, int]:
    found = _ATTEMPTS.fullmatch(str(value))
    if found is None:
        raise UsageError(
            f"{where}: attempts = {value!r} is none.", 'Write "1" for the first or "2+" for all later ones.'
        )
    return int(found[1]), 10**9 if found[2] else int(found[1])


def _known(row: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in row:
        if key not in keys:
            raise UsageError(f"{where}: there is no key {key!r}.", f"Known are: {', '.join(keys)}.")


def is_bundled(name: str) -> bool:
    """Whether ``name`` can be one of the package's own scripts, and not a path."""
    return _NAME.fullmatch(name) is not None


def played(turn: Turn, said: str) -> Fault | None:
    """The fault of ``turn`` that happens now. ``said``: every word of the conversation."""
    return None if turn.fault is None or (turn.unless and turn.unless in said) else turn.fault
