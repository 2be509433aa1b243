"""The supervisor process: one blocking loop. Leases shards, reads, thinks, writes, sends. Two or more may run.

Everything it knows is in the ledger; what it keeps in memory (views, liveness) is rebuilt at take-over. An order is
written in the same step as the view that wants it, and sent afterwards: a crash in between sends it later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fleet.adapters import keys
from fleet.adapters.crash import crash_here
from fleet.adapters.telemetry import about_event, listening, log
from fleet.core.codec import decode
from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, Nudged, Source, StateChanged
from fleet.core.outbox import Outstanding
from fleet.core.ports import Clock, Dice, Waker
from fleet.core.step import Refused, Shards, Step
from fleet.core.ticket import all_shards
from fleet.core.view import TicketView
from supervisor.admission import Caps
from supervisor.agenda import NEVER
from supervisor.archive import Archivist
from supervisor.desk import Desk
from supervisor.policy import Policy
from supervisor.post import Post
from supervisor.shard import Shard, ShardKeeper, Turn

RENEW_EVERY = 1.0
SWEEP_EVERY = 2.0
BLOCK_MS = 500
# A pass that took this much longer than it meant to wait was deaf: the store did not answer, or we were frozen.
DEAF_AFTER = 1.0
_FIRST_PAUSE = 0.05


@dataclass(slots=True)
class _Timers:
    """Monotonic moments when each duty was done last."""

    renewed: float = float("-inf")
    swept: float = float("-inf")


class Supervisor:
    """``stop`` is asked once per pass; on True the leases are given back and ``run`` returns."""

    def __init__(
        self,
        store: Shards,
        waker: Waker,
        clock: Clock,
        dice: Dice,
        policy: Policy,
        caps: Caps,
        archivist: Archivist | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._dice = dice
        self._policy = policy
        self._caps = caps
        self._archivist = archivist
        self._keepers: dict[str, ShardKeeper] = {}
        self._desk: Desk | None = None
        self._timers = _Timers()
        self._post = Post(store, waker, self._keepers, policy.rewake_after)
        self._pause = _FIRST_PAUSE
        self._history = ""

    def run(self, stop: Callable[[], bool]) -> None:
        while not stop():
            pause = self.once(BLOCK_MS)
            if pause:
                self._clock.sleep(pause)
        self.leave()

    def once(self, block_ms: int) -> float:
        """One pass, whatever becomes of it. Answers how many seconds to wait before the next one."""
        try:
            self.turn(block_ms)
        except Refused:
            self._drop_all()
        except TemporaryError:
            # The store is away. Silence means nothing now: liveness starts anew when it is back (I15).
            self._drop_all()
            pause, self._pause = self._pause, min(self._pause * 2, 2.0)
            return pause
        self._pause = _FIRST_PAUSE
        return 0.0

    def leave(self) -> None:
        """Gives every lease back, so that another supervisor need not wait for it to expire."""
        try:
            owned = [*self._keepers, *([keys.ADMISSION] if self._desk else [])]
            self._store.leave(owned)
        except TemporaryError:
            pass  # the leases expire by themselves
        self._drop_all()

    def turn(self, block_ms: int) -> None:
        """One pass: leases, new entries, clocks, due orders. The time for which it was deaf is nobody's silence."""
        begun = mono = self._clock.monotonic()
        if mono - self._timers.renewed >= RENEW_EVERY:
            self._share()
            if self._desk is not None:
                self._desk.held = self._store.held()
            self._timers.renewed = mono
        block_ms = self._patience(block_ms, mono)
        entries, asked = self._store.read(self._cursors(), self._desk.cursor if self._desk else None, block_ms)
        grouped: dict[str, dict[Source, list[tuple[str, bytes]]]] = {}
        for (shard, source), rows in entries.items():
            grouped.setdefault(shard, {})[source] = rows
        wall, mono = self._clock.now(), self._clock.monotonic()
        self._forgive(mono - begun - block_ms / 1000, mono)
        absorbing = ((self._keepers[shard], by_source) for shard, by_source in grouped.items())
        self._write(
            [(keeper, keeper.absorb(by_source, wall, mono, self._dice.uniform())) for keeper, by_source in absorbing]
        )
        ticking = [keeper for keeper in self._keepers.values() if keeper.next() <= mono]
        self._write([(keeper, keeper.tick(wall, mono, self._dice.uniform())) for keeper in ticking])
        if mono - self._timers.swept >= SWEEP_EVERY:
            self._post.sweep(mono)
            self._timers.swept = mono
        self._post.send_due(mono)
        if self._desk is not None:
            self._desk.absorb(asked, wall, mono)
        if self._archivist is not None:
            self._archivist.turn(self._keepers, wall, mono)
        done = self._clock.monotonic()
        self._forgive(done - mono, done)

    def _patience(self, block_ms: int, mono: float) -> int:
        """Milliseconds to wait for new entries: no longer than until something else is due."""
        due = min((keeper.next() for keeper in self._keepers.values()), default=NEVER)
        left = (min(due, self._post.next()) - mono) * 1000
        return block_ms if left >= block_ms else min(block_ms, math.ceil(max(left, 1.0)))

    def _forgive(self, deaf: float, mono: float) -> None:
        """What could not be heard was not unsaid: a pause of the store or of this process restarts nobody (I15)."""
        if deaf > DEAF_AFTER:
            for keeper in self._keepers.values():
                keeper.shard.clocks.forgive(deaf, mono)

    def views(self) -> Iterator[TicketView]:
        for keeper in self._keepers.values():
            yield from keeper.shard.views.values()

    @property
    def trouble(self) -> str:
        """A bug of ours that a ticket met, and that only stopped that one; empty while there was none."""
        return next((keeper.trouble for keeper in self._keepers.values() if keeper.trouble), "")

    @property
    def owned(self) -> frozenset[str]:
        return frozenset(self._keepers) | (frozenset({keys.ADMISSION}) if self._desk else frozenset())

    # --- leases ----------------------------------------------------------------------------------------------------
    def _share(self) -> None:
        """Renews what we own, takes what nobody owns, and leaves a fair part to the other supervisors."""
        self._recognise()
        members = max(1, self._store.announce())
        entities = (*all_shards(), keys.ADMISSION)
        fair = -(-len(entities) // members)
        before = self.owned
        mine = [name for name in entities if name in before]
        for name, epoch in self._store.renew(mine).items():
            if epoch != self._epoch(name):
                self._drop(name)
        kept = self.owned
        for name in [name for name in mine if name in kept][fair:]:
            self._store.release(name)
            self._drop(name)
        owned = self.owned
        for name in entities:
            if len(owned) >= fair:
                break
            if name not in owned:
                self._take(name)
                owned = self.owned
        wall, mono = self._clock.now(), self._clock.monotonic()
        strange = [keeper for keeper in self._keepers.values() if keeper.shard.history != self._history]
        self._write([(keeper, keeper.recover(self._history, wall, mono)) for keeper in strange])

    def _recognise(self) -> None:
        """Looks whether the store is still the one that was told everything. Else all is dropped and taken anew."""
        history = self._store.history()
        if self._history and history != self._history:
            log().warning(
                "the store has another history: what it was told last may be lost", was=self._history, now=history
            )
            self._drop_all()
        self._history = history

    def _take(self, name: str) -> None:
        epoch, _ = self._store.lease(name)
        if not epoch:
            return
        if name == keys.ADMISSION:
            self._desk = Desk(self._store, epoch, self._caps, self._all_views)
            return
        loaded = self._store.load(name)
        outbox: dict[str, dict[str, Outstanding]] = {}
        for effect_id, raw in loaded.outbox.items():
            order = decode(raw, Outstanding)
            outbox.setdefault(order.effect.ticket, {})[effect_id] = order
        shard = Shard(
            name,
            epoch,
            {ticket: decode(raw, TicketView) for ticket, raw in loaded.views.items()},
            outbox,
            dict(loaded.cursors),
            self._store.incarnation,
            history=loaded.history,
        )
        if self._archivist is not None:
            self._archivist.opened(shard)
        self._keepers[name] = ShardKeeper(shard, self._policy)
        standing = [order for orders in outbox.values() for order in orders.values()]
        self._post.take(standing, self._clock.now(), self._clock.monotonic())

    def _epoch(self, name: str) -> int:
        if name == keys.ADMISSION:
            return self._desk.epoch if self._desk else 0
        keeper = self._keepers.get(name)
        return keeper.shard.epoch if keeper else 0

    def _drop(self, name: str) -> None:
        if name == keys.ADMISSION:
            self._desk = None
        self._keepers.pop(name, None)

    def _drop_all(self) -> None:
        self._keepers.clear()
        self._desk = None
        self._timers = _Timers()
        self._post.clear()

    def _all_views(self) -> Iterator[TicketView]:
        """Views of all shards, ours from memory."""
        yield from self.views()
        for name in all_shards():
            if name not in self._keepers:
                yield from (decode(raw, TicketView) for raw in self._store.load(name).views.values())

    # --- writing and sending ---------------------------------------------------------------------------------------
    def _cursors(self) -> dict[tuple[str, Source], str]:
        return {
            (name, source): keeper.shard.cursors.get(source, "0")
            for name, keeper in self._keepers.items()
            for source in keys.INBOUND
        }

    def _write(self, turns: Sequence[tuple[ShardKeeper, Turn]]) -> None:
        """The atomic steps in one round trip, then memory. A turn that only heard heartbeats is not written."""
        steps: list[Step] = []
        for keeper, turn in turns:
            if not turn.batch.empty:
                cursors = keeper.shard.cursors
                pending = {source: at for source, at in cursors.items() if source not in turn.batch.cursors}
                turn.batch.cursors.update(pending)
                steps.append((keeper.shard.name, keeper.shard.epoch, turn.batch))
        claimed: frozenset[str] = frozenset()
        if steps:
            crash_here("supervisor.before_step")
            claimed = self._store.steps(steps)
            crash_here("supervisor.after_step")
        for keeper, turn in turns:
            if not claimed.isdisjoint(turn.batch.unbegun):
                keeper.shard.claimed |= claimed  # nothing was written: the next pass reads the same and knows better
                keeper.postpone(turn)
                continue
            mono = self._clock.monotonic()
            keeper.commit(turn, mono)
            self._post.add(turn.batch.orders, self._clock.now(), mono)
            if listening():
                _note_all(turn)


def _note_all(turn: Turn) -> None:
    for event in turn.batch.log:
        if isinstance(event.data, StateChanged | Nudged):
            _note(event, event.data)


def _note(event: Envelope, done: StateChanged | Nudged) -> None:
    """A decision, for people who read the log of the service; told after it was written."""
    with about_event(event, done.attempt if isinstance(done, StateChanged) else 0):
        if isinstance(done, Nudged):
            log().info("nudged", rung=done.rung.value, cause=done.cause, seconds=round(done.seconds, 1))
        else:
            log().info("moved", state=done.state.value, reason=done.reason.value, detail=done.detail[:300])
