"""A log told again, step by step: what each event changed, and what this version would have decided there. Pure.

What a decision was made of is in the log, but for three things that nobody wrote down: the dice of a pause, how long a
worker had been silent on its owner's monotonic clock, and where one batch of events ended. So a decision that only some
silence or an ended pause explains counts as made ``BY_CLOCK``, and how long a pause was is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec

from fleet.core.events import Envelope, EventsMissing, Source, StateChanged
from fleet.core.view import TicketView
from supervisor.decide import decide
from supervisor.decision import Decision, Moment, Order
from supervisor.fold import fold
from supervisor.policy import Policy
from supervisor.stall import Quiet
from supervisor.trouble import OUR_FAULT

# Words, dice and clocks: they may differ, and the decision is the same.
_LOOSE = frozenset({"detail", "until", "text", "seconds"})
_OVER = 1.0


class Judged(Enum):
    """How this version sees a decision of the log. ``NONE``: the event is no decision."""

    NONE = "none"
    SAME = "same"
    BY_CLOCK = "by_clock"
    OTHERWISE = "otherwise"


@dataclass(frozen=True, slots=True)
class Change:
    """One field of the view, dotted where it is nested; values as JSON has them. ``before`` None: there was none."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Step:
    """``number`` counts from 1; ``view`` is that after the event. ``orders``: of the same decision made now.

    ``instead``: what this version decides in that place, when that is something else (None: nothing).
    """

    number: int
    event: Envelope
    view: TicketView
    changes: tuple[Change, ...]
    judged: Judged = Judged.NONE
    orders: tuple[Order, ...] = ()
    instead: Decision | None = None


def replay(events: Iterable[Envelope], policy: Policy) -> Iterator[Step]:
    """Raises InternalError where the log breaks a law: its first event accepts nothing, or a move is not allowed."""
    view: TicketView | None = None
    for number, event in enumerate(events, 1):
        after = fold(view, event)
        judged, found = Judged.NONE, None
        if view is not None and event.source is Source.SUPERVISOR and _decided(event):
            judged, found = _judge(view, event, policy)
        same = judged in (Judged.SAME, Judged.BY_CLOCK)
        yield Step(
            number,
            event,
            after,
            changes(view, after),
            judged,
            found.orders if found is not None and same else (),
            None if same else found,
        )
        view = after


def pending(view: TicketView, at: float, policy: Policy) -> Decision | None:
    """What this version would decide next, without any clock running out: None for a log that ends where it should."""
    return decide(view, Moment(at if view.until is None else min(at, view.until - _OVER)), policy)


def changes(before: TicketView | None, after: TicketView) -> tuple[Change, ...]:
    """What differs, in the order of the view's fields. The version grows with every event and is left out."""
    if before is None:
        names = ("ticket", "state", "reason", "since")
        return tuple(Change(name, None, msgspec.to_builtins(getattr(after, name))) for name in names)
    return tuple(change for change in _differences(before, after) if change.field != "version")


def _differences(before: Any, after: Any, prefix: str = "") -> Iterator[Change]:
    for one in fields(before):
        old, new = getattr(before, one.name), getattr(after, one.name)
        if old == new:
            continue
        if is_dataclass(old) and type(old) is type(new):
            yield from _differences(old, new, f"{prefix}{one.name}.")
        else:
            yield Change(f"{prefix}{one.name}", msgspec.to_builtins(old), msgspec.to_builtins(new))


def _decided(event: Envelope) -> bool:
    """Whether ``decide`` is behind it: neither a call for lost events, nor the end of what it could not decide."""
    data = event.data
    ours = isinstance(data, StateChanged) and data.detail.startswith(OUR_FAULT)
    return not isinstance(data, EventsMissing) and not ours


def _judge(view: TicketView, event: Envelope, policy: Policy) -> tuple[Judged, Decision | None]:
    """The verdict, and what this version decides there."""
    plain, *clocks = (decide(view, moment, policy) for moment in _moments(view, event.at, policy))
    if plain is not None and _alike(plain.event, event.data):
        return Judged.SAME, plain
    for found in clocks:
        if found is not None and _alike(found.event, event.data):
            return Judged.BY_CLOCK, found
    return Judged.OTHERWISE, plain


def _moments(view: TicketView, at: float, policy: Policy) -> Iterator[Moment]:
    """The moment as far as it was written down, then those in which one clock or another has run out."""
    until = view.until
    yield Moment(at if until is None else min(at, until - _OVER))
    if until is not None:
        yield Moment(max(at, until))
        return
    yield Moment(at, silent=policy.lost_after + _OVER)
    yield Moment(at, unclaimed=policy.claim_within + _OVER)
    rung = max(policy.between_rungs, policy.probe_within, policy.stop_within) + _OVER
    yield Moment(at, quiet=Quiet(rung=rung))
    yield Moment(at, quiet=Quiet(word=max(policy.silence, policy.model_silence) + _OVER, rung=rung))
    yield Moment(at, quiet=Quiet(progress=policy.no_progress + _OVER, rung=rung))


def _alike(decided: object, recorded: object) -> bool:
    if type(decided) is not type(recorded) or not is_dataclass(recorded):
        return False
    for one in fields(recorded):
        mine, theirs = getattr(decided, one.name), getattr(recorded, one.name)
        if one.name not in _LOOSE and mine != theirs:
            return False
        if one.name == "until" and (mine is None) != (theirs is None):
            return False
    return True
