"""What leaves the ledger, and when: logs of tickets that ended, the older part of long logs, tickets long over.

A log first lies in the artifact store, under a name that follows from its content; only then, in one step under the
shard's epoch, the ledger notes the segment and the stream lets go of it. A crash in between leaves a file that the next
try writes again. So nothing is ever in neither place, and an owner that was replaced takes nothing away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from fleet.adapters import keys
from fleet.adapters.telemetry import log
from fleet.core.archive import Archive, Segment, pack, sealed_upto, segment_name
from fleet.core.past import Past
from fleet.core.ports import Artifacts, Clock
from fleet.core.states import TRANSITIONS
from fleet.core.view import TicketView
from supervisor.shard import Shard, ShardKeeper

WALK_EVERY = 10.0
# Of each second so much may be spent here; the rest waits for the next pass.
MOST_SECONDS = 0.1
TURN_EVERY = 1.0
# A full disk is tried again after as many seconds.
PAUSE = 60.0
_FORGET_MOST = 500


@dataclass(frozen=True, slots=True)
class Keeping:
    """``settle``: seconds after its end in which a ticket's last words still come; then its log is sealed.

    ``live_most``: events that a live ticket's stream may hold; the older part is sealed, the newest ``live_kept`` stay.
    ``segment_most``: events per segment. ``keep``: seconds after its end when a ticket is forgotten.
    """

    settle: float = 60.0
    keep: float = 30 * 86_400.0
    live_most: int = 2000
    live_kept: int = 500
    segment_most: int = 2000


class Duty(Enum):
    """What is to be done with a ticket's log. Each includes that nothing of it is lost."""

    SEAL_OLDER = "seal_older"
    SEAL_ALL = "seal_all"
    FORGET = "forget"


def duty(view: TicketView, sealed: int, orders: bool, now: float, keeping: Keeping) -> Duty | None:
    """``sealed``: how many of its events are. ``orders``: whether one still stands. ``now``: wall clock. Pure.

    Only a ticket that ended and that nobody works for any more is touched as a whole.
    """
    over = now - view.since if view.state.terminal and not orders else -1.0
    if over >= keeping.settle and sealed < view.version:
        return Duty.SEAL_ALL
    if over >= keeping.keep:
        return Duty.FORGET
    return Duty.SEAL_OLDER if view.version - sealed > keeping.live_most else None


class Archivist:
    """Looks after the shards that this supervisor owns: a little in each ``turn``, which is called once per pass."""

    def __init__(self, archive: Archive, artifacts: Artifacts, clock: Clock, keeping: Keeping | None = None) -> None:
        self._archive = archive
        self._artifacts = artifacts
        self._clock = clock
        self._keeping = keeping or Keeping()
        self._sealed: dict[str, dict[str, tuple[Segment, ...]]] = {}
        self._due: deque[tuple[str, str]] = deque()
        self._walked = self._turned = float("-inf")
        self._again_at = float("-inf")

    def opened(self, shard: Shard) -> None:
        """The shard is ours from now on."""
        self._sealed[shard.name] = dict(self._archive.sealed(shard.name))
        shard.past = self._archive.past(shard.name)

    def turn(self, keepers: Mapping[str, ShardKeeper], wall: float, mono: float) -> None:
        """Raises Refused when a shard is no longer ours, TemporaryError while the store is away."""
        if mono - self._turned < TURN_EVERY or mono < self._again_at:
            return
        self._turned = mono
        if mono - self._walked >= WALK_EVERY:
            self._walked = mono
            self._due = deque(self._seals(keepers, wall))
            for keeper in keepers.values():
                self._forget(keeper, wall)
        while self._due and self._clock.monotonic() - mono < MOST_SECONDS:
            name, ticket = self._due.popleft()
            if name not in keepers or ticket not in keepers[name].shard.views:
                continue
            shard = keepers[name].shard
            try:
                self._seal(shard, shard.views[ticket], wall)
            except OSError as error:
                log().warning("a log cannot be stored; it stays in the ledger", ticket=ticket, why=str(error))
                self._again_at = mono + PAUSE
                return

    def _seals(self, keepers: Mapping[str, ShardKeeper], wall: float) -> Iterator[tuple[str, str]]:
        for name, keeper in keepers.items():
            for ticket, view in keeper.shard.views.items():
                if self._duty(keeper.shard, view, wall) in (Duty.SEAL_ALL, Duty.SEAL_OLDER):
                    yield name, ticket

    def _duty(self, shard: Shard, view: TicketView, wall: float) -> Duty | None:
        sealed, _ = sealed_upto(self._segments(shard, view.id))
        return duty(view, sealed, view.id in shard.outbox, wall, self._keeping)

    def _segments(self, shard: Shard, ticket: str) -> tuple[Segment, ...]:
        return self._sealed.setdefault(shard.name, {}).get(ticket, ())

    def _seal(self, shard: Shard, view: TicketView, wall: float) -> None:
        """Stores first, then lets the ledger know: what the stream lets go of is always somewhere else already."""
        what = self._duty(shard, view, wall)
        if what not in (Duty.SEAL_ALL, Duty.SEAL_OLDER):
            return
        keeping, segments = self._keeping, self._segments(shard, view.id)
        number, cursor = sealed_upto(segments)
        wanted = view.version - (keeping.live_kept if what is Duty.SEAL_OLDER else 0)
        while number < wanted:
            rows = self._archive.rows(view.id, cursor, min(wanted - number, keeping.segment_most))
            if len(rows) != min(wanted - number, keeping.segment_most):
                log().warning("a log has other events than its view counted; it stays in the ledger", ticket=view.id)
                return
            data, digest = pack(rows)
            first, number, cursor = number + 1, number + len(rows), rows[-1][0]
            name = segment_name(shard.incarnation, view.id, first, number, digest)
            self._artifacts.put(name, data)
            segments = (*segments, Segment(name, first, number, cursor, digest))
        gone = [keys.tell(view.id, attempt) for attempt in range(1, view.attempt + 1)] if what is Duty.SEAL_ALL else []
        if what is Duty.SEAL_ALL and not TRANSITIONS[view.state]:
            gone += [keys.gates(view.id), keys.approvals(view.id)]
        self._archive.seal(shard.name, shard.epoch, view.id, segments, gone)
        self._sealed[shard.name][view.id] = segments

    def _forget(self, keeper: ShardKeeper, wall: float) -> None:
        shard = keeper.shard
        names = [name for name, view in shard.views.items() if self._duty(shard, view, wall) is Duty.FORGET]
        if not names:
            return
        tickets = {name: (shard.views[name].version, past(shard.views[name])) for name in names[:_FORGET_MOST]}
        self._archive.forget(shard.name, shard.epoch, tickets)
        keeper.let_go(tickets)
        for name in tickets:
            self._sealed[shard.name].pop(name, None)


def past(view: TicketView) -> Past:
    """What is remembered for ever: a generation that was, and the label it answered."""
    return Past(view.state.value, view.ticket.accepted_at, view.ticket.trigger)
