"""Silence and pauses of one shard's tickets, measured on the owner's own monotonic clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from fleet.core.effects import Effect, EffectKind
from fleet.core.retry import RETRY_AFTER_MOST_S
from fleet.core.states import State
from fleet.core.view import TicketView
from supervisor.agenda import NEVER
from supervisor.decision import Moment
from supervisor.policy import Policy
from supervisor.stall import Quiet

CLOCKED = frozenset({State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING})
_QUIET = Quiet()
# Effects that are a state's own work, begun once. The publisher's other effects are repeated until they are told.
WORKS = frozenset({EffectKind.START_ATTEMPT, EffectKind.RUN_GATES, EffectKind.PUBLISH})


@dataclass(slots=True)
class Liveness:
    """What the owner knows about the worker of a ticket's current state, on its own monotonic clock.

    ``heard``: any sign of life, heartbeats too; ``word``: the agent's own; ``progress``: something new from it;
    ``rung``: the last step against a stall.

    Not stored: a new owner starts counting anew, so that a take-over or a Redis outage restarts nobody (I15).
    """

    ordered: float
    heard: float | None = None
    word: float | None = None
    progress: float | None = None
    rung: float | None = None


class Heard(Protocol):
    """What a pass heard: ``views`` as they will be, ``moved`` those whose state changed."""

    views: dict[str, TicketView]
    heard: set[str]
    spoke: set[str]
    moved: set[str]


class Clocks:
    """``known``: ticket → its worker's signs of life."""

    def __init__(self) -> None:
        self.known: dict[str, Liveness] = {}
        # Ticket → (the wall time until which it backs off, the moment on our monotonic clock when that is over).
        self._waits: dict[str, tuple[float, float]] = {}

    def drop(self, ticket: str) -> None:
        """The ticket is gone."""
        self.known.pop(ticket, None)
        self._waits.pop(ticket, None)

    def follow(self, before: Mapping[str, TicketView], turn: Heard, mono: float) -> None:
        """The pass is written. ``before``: the views without it."""
        for name in turn.moved:
            self.known[name] = Liveness(mono)
            self._waits.pop(name, None)
        for name in turn.heard:
            self.known.setdefault(name, Liveness(mono)).heard = mono
        for name in turn.spoke:
            self.known.setdefault(name, Liveness(mono)).word = mono
        for name, view in turn.views.items():
            if name not in before:
                continue
            known, watch, now = self.known.setdefault(name, Liveness(mono)), before[name].watch, view.watch
            if now.progress != watch.progress or (now.begun and not watch.begun):
                known.progress = mono
            if now.rung > watch.rung:
                known.rung = mono

    def forgive(self, seconds: float, mono: float) -> None:
        """For ``seconds`` nobody could have been heard: every clock of a ticket stands still for as long."""
        for known in self.known.values():
            for name in ("ordered", "heard", "word", "progress", "rung"):
                at = getattr(known, name)
                if at is not None:
                    setattr(known, name, min(at + seconds, mono))

    def waited(self, view: TicketView, until: float, wall: float, mono: float) -> bool:
        """Whether a pause is over, by the monotonic clock since we first saw it: the wall clock may jump meanwhile."""
        known = self._waits.get(view.id)
        if known is None or known[0] != until:
            known = self._waits[view.id] = (until, mono + min(until - wall, RETRY_AFTER_MOST_S))
        return known[1] <= mono

    def moment(self, view: TicketView, wall: float, mono: float, jitter: float) -> Moment:
        """The silence of this ticket's worker; counted from the first look when it was never heard."""
        if view.until is not None:
            over = self.waited(view, view.until, wall, mono)
            return Moment(view.until if over else min(wall, view.until - 1.0), jitter=jitter)
        known = self.known.get(view.id) or self.known.setdefault(view.id, Liveness(mono))
        quiet, ordered = _QUIET, known.ordered
        if view.state is State.RUNNING:
            quiet = Quiet(
                mono - (known.word or ordered), mono - (known.progress or ordered), mono - (known.rung or ordered)
            )
        if known.heard is None and view.state is State.RUNNING:
            # It was claimed, so it must speak: what it said last came before this state, or before this owner.
            return Moment(wall, silent=mono - known.ordered, jitter=jitter, quiet=quiet)
        if known.heard is not None:
            return Moment(wall, silent=mono - known.heard, jitter=jitter, quiet=quiet)
        return Moment(wall, unclaimed=mono - known.ordered, jitter=jitter, quiet=quiet)

    def next_look(self, view: TicketView, since: float, policy: Policy) -> float:
        """The first moment from ``since`` on at which time alone may change what is decided about ``view``.

        ``since``: the moment of the last look. Whoever makes ``decide`` depend on one more clock adds it here.
        """
        if view.until is not None:
            wait = self._waits.get(view.id)
            return wait[1] if wait is not None and wait[0] == view.until else since
        if view.state not in CLOCKED:
            return NEVER
        known = self.known.get(view.id)
        if known is None:
            return since
        return min((at for at in _limits(view, known, policy) if at >= since), default=NEVER)

    def unheard(self, effect: Effect) -> bool:
        """Whether the worker of this order, of the ticket's current state, has not given a sign of life yet."""
        known = self.known.get(effect.ticket)
        return effect.kind in WORKS and (known is None or known.heard is None)

    def hear(self, ticket: str, mono: float) -> None:
        self.known.setdefault(ticket, Liveness(mono)).heard = mono


def _limits(view: TicketView, known: Liveness, policy: Policy) -> Iterator[float]:
    """When each clock of the ticket reaches its threshold; some are in the past."""
    ordered, running = known.ordered, view.state is State.RUNNING
    if known.heard is not None or running:
        yield (ordered if known.heard is None else known.heard) + policy.lost_after
    elif view.state is State.STARTING:
        yield ordered + policy.claim_within
    if running and view.watch.begun:
        yield (known.word or ordered) + (policy.model_silence if view.watch.asking else policy.silence)
        yield (known.progress or ordered) + policy.no_progress
        if view.watch.rung or view.watch.stopping:
            for patience in (policy.between_rungs, policy.probe_within, policy.stop_within):
                yield (known.rung or ordered) + patience
