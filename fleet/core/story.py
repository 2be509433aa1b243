"""What became of each attempt of a ticket, told from its log: evidence for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fleet.core.budget import Cost
from fleet.core.events import (
    AttemptFailed,
    AttemptStarted,
    ChangeReady,
    Envelope,
    GateFinished,
    Nudged,
    Rung,
    Source,
    StateChanged,
    ToolFinished,
    TurnFinished,
)
from fleet.core.states import State

_AT_WORK = frozenset({State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING})
_NUDGES = frozenset({Rung.NUDGE, Rung.INTERRUPT})
_RED = frozenset({"failed", "timed_out"})
# A bundle of a handed-over change, and of what was there when an attempt failed, in the artifact store.
CHANGE = "change"
PARTIAL = "partial"
# Who claimed it. It stands there before the attempt works: a ledger that is lost next does not lose the count.
BEGUN = "begun"
# The ref that holds the commit in such a bundle.
CHANGE_REF = "refs/fleet/change"


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """``ended``: the reason of the move that ended it, empty while it lives. ``digest``: the useful part of its
    failure. ``seconds``: from its dispatch to its end. ``red``: gates that refused its change; what
    they printed is its digest when nothing else is. ``agent``: who worked.
    """

    number: int
    at: float
    ended: str = ""
    detail: str = ""
    digest: str = ""
    seconds: float = 0.0
    turns: int = 0
    calls: int = 0
    nudges: int = 0
    cost: Cost = field(default_factory=Cost)
    change: ChangeReady | None = None
    red: tuple[str, ...] = ()
    agent: str = ""


def story(events: Iterable[Envelope]) -> tuple[AttemptStory, ...]:
    """The attempts of a ticket's log, oldest first."""
    told: dict[int, AttemptStory] = {}
    for event in events:
        data = event.data
        if isinstance(data, StateChanged) and data.state is State.STARTING:
            told[data.attempt] = AttemptStory(data.attempt, event.at)
        known = told.get(event.attempt)
        if known is not None:
            told[event.attempt] = _after(known, event)
    return tuple(told.values())


def _after(known: AttemptStory, event: Envelope) -> AttemptStory:
    data = event.data
    if isinstance(data, StateChanged):
        if known.ended:
            return known
        if data.state in _AT_WORK:
            return replace(known, red=(), digest="")
        seconds = max(0.0, event.at - known.at)
        return replace(known, ended=data.reason.value, detail=data.detail, seconds=seconds)
    if isinstance(data, GateFinished):
        if data.outcome not in _RED:
            return known
        return replace(known, red=(*known.red, f"{data.name}: {data.summary}"), digest=known.digest or data.digest)
    if isinstance(data, Nudged):
        return replace(known, nudges=known.nudges + (data.rung in _NUDGES))
    return _of_attempt(known, event) if event.source is Source.ATTEMPTS else known


def _of_attempt(known: AttemptStory, event: Envelope) -> AttemptStory:
    data = event.data
    if isinstance(data, AttemptStarted):
        return replace(known, agent=data.agent)
    if isinstance(data, TurnFinished):
        return replace(known, turns=max(known.turns, data.turn), cost=known.cost + data.cost)
    if isinstance(data, ToolFinished):
        return replace(known, calls=known.calls + 1)
    if isinstance(data, ChangeReady):
        return replace(known, change=data)
    # What it says after its end, it was told to say.
    if isinstance(data, AttemptFailed) and not known.ended:
        return replace(known, digest=data.digest or data.detail)
    return known


def telling(told: Sequence[AttemptStory]) -> AttemptStory:
    """Whose words a person should read: the last attempt that left any. One whose change was known to be red has none.

    ``told`` is not empty.
    """
    return next((one for one in reversed(told) if one.red or one.digest), told[-1])


def artifact(ticket: str, attempt: int, what: str, suffix: str = "bundle") -> str:
    """The artifact's name of what an attempt left: ``CHANGE``, ``PARTIAL`` or ``BEGUN``."""
    return f"tickets/{ticket}/{attempt}/{what}.{suffix}"
