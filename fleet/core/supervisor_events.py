"""What the supervisor itself puts into a ticket's log. Everybody imports these from ``fleet.core.events``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fleet.core.states import Reason, State


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The only event that moves a ticket; checked against the transition table when it is folded.

    ``until`` is a wall-clock Unix time for backing off; ``attempt`` and ``turn`` what the new state works on.
    ``agent``: who works from now on, another one of the ticket's route; empty: whoever did.
    """

    state: State
    reason: Reason
    detail: str = ""
    until: float | None = None
    attempt: int = 0
    turn: int = 0
    agent: str = ""


@dataclass(frozen=True, slots=True)
class SlotAsked:
    """Admission was asked for a place for ``attempt``."""

    attempt: int


@dataclass(frozen=True, slots=True)
class WithdrawOrdered:
    """The publisher was told to close the fleet's own pull request of a cancelled ticket (0: whatever it finds)."""

    number: int


class Rung(Enum):
    """Steps of the ladder against a stall, mildest first; each at most once per streak.

    ``PROBE`` asks the guard for a sign, the agent hears nothing of it; ``STOP`` ends the attempt.
    """

    PROBE = "probe"
    NUDGE = "nudge"
    INTERRUPT = "interrupt"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Nudged:
    """The supervisor noticed a stall and took a step. ``cause``: silence, idleness, loop, errors, alternation.

    ``text`` is what the agent was told, or for the last step its successor; ``seconds`` how long the cause had lasted.
    """

    rung: Rung
    cause: str
    text: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SteersTold:
    """The attempt was told the oldest ``count`` of what people said to it."""

    count: int


@dataclass(frozen=True, slots=True)
class EventsMissing:
    """The supervisor saw a gap and asked the attempt to send again from ``seq``."""

    seq: int
