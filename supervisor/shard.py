"""One shard in the hands of its owner: views in memory, and how a batch of inbound entries changes them.

No I/O: ``absorb`` and ``tick`` return what is to be written; the service writes it and then calls ``commit``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.adapters.telemetry import log
from fleet.core.codec import CodecError, decode_event
from fleet.core.effects import WAKES, Effect, EffectKind
from fleet.core.errors import InternalError
from fleet.core.events import (
    CommentHeard,
    Envelope,
    EventData,
    EventsMissing,
    Heartbeat,
    Nudged,
    Source,
    StateChanged,
    StatusPosted,
    TicketAccepted,
    Withdrawn,
)
from fleet.core.frozen import replace
from fleet.core.outbox import Outstanding
from fleet.core.states import State
from fleet.core.step import Batch
from fleet.core.ticket import shard_of
from fleet.core.tracing import traceparent
from fleet.core.view import TicketView
from supervisor import late
from supervisor.agenda import Agenda
from supervisor.decide import decide
from supervisor.decision import Moment
from supervisor.fold import fold
from supervisor.hearing import hear, stale, waits_for
from supervisor.liveness import CLOCKED, Clocks
from supervisor.policy import Policy
from supervisor.recovery import asked_again, lost_a_second, say_again
from supervisor.stall import GUARDS_OWN
from supervisor.telling import Spacing, at_once, raised, spent_more, status, to_be_told
from supervisor.trouble import Trouble, set_aside

# However the moments were reckoned, a ticket that waits for a clock is looked at as often as this.
ROUND_EVERY = 5.0


@dataclass(slots=True)
class Shard:
    """``outbox``: ticket → effect id → order, so that a ticket's orders are found without a walk over all.

    ``incarnation``: of the ledger; a ticket's trace follows from it. ``past``: tickets that were forgotten.
    ``history``: of the store when it was owned last.
    ``claimed``: orders to start an attempt that came in the way of an earlier one's hand-over.
    """

    name: str
    epoch: int
    views: dict[str, TicketView]
    outbox: dict[str, dict[str, Outstanding]]
    cursors: dict[Source, str]
    incarnation: str = ""
    history: str = ""
    clocks: Clocks = field(default_factory=Clocks)
    spacing: Spacing = field(default_factory=Spacing)
    past: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Turn:
    """One pass over a shard: the batch to write, and the views as they will be once it is written.

    ``mono``: the moment for which it was decided. ``looked``: the tickets that it was decided about.
    """

    batch: Batch
    mono: float
    looked: list[str] = field(default_factory=list)
    views: dict[str, TicketView] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    spoke: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)


class ShardKeeper:
    """Thinks for one shard. ``wall`` and ``mono`` are the moments of the pass, ``jitter`` a number in [0, 1)."""

    def __init__(self, shard: Shard, policy: Policy) -> None:
        self.shard = shard
        self._policy = policy
        self._agenda = Agenda()
        self._round = float("-inf")
        # Ticket → why nothing could be decided about it in the turn that is being thought.
        self._aside: dict[str, str] = {}
        # The newest bug of ours that a ticket met, for those who hunt them; empty while there was none.
        self.trouble = ""

    def absorb(
        self, entries: Mapping[Source, list[tuple[str, bytes]]], wall: float, mono: float, jitter: float
    ) -> Turn:
        """Folds inbound entries, then decides for each ticket they touched."""

        def think() -> Turn:
            turn = Turn(Batch(), mono)
            for source, rows in entries.items():
                for cursor, raw in rows:
                    turn.batch.cursors[source] = cursor
                    self._take_in(turn, source, raw, wall)
            self._decide_all(turn, list(turn.views), wall, mono, jitter)
            return turn

        return self._spared(think)

    def recover(self, now: str, wall: float, mono: float) -> Turn:
        """The first turn in the store's history ``now``."""
        turn = Turn(Batch(history=now), mono)
        if lost_a_second(self.shard.history, now):
            turn.batch.orders += asked_again(self.shard.views, self.shard.incarnation, wall)
        return turn

    def next(self) -> float:
        """The monotonic moment at which ``tick`` has something to look at."""
        return min(self._agenda.next(), self._round + ROUND_EVERY)

    def tick(self, wall: float, mono: float, jitter: float) -> Turn:
        """Decides for every ticket that a clock may have moved."""
        due = self._agenda.due(mono)
        if mono - self._round >= ROUND_EVERY:
            self._round = mono
            due = [view.id for view in self.shard.views.values() if view.state in CLOCKED or view.until is not None]

        def think() -> Turn:
            turn = Turn(Batch(), mono)
            self._decide_all(turn, due, wall, mono, jitter)
            return turn

        return self._spared(think)

    def commit(self, turn: Turn, mono: float) -> None:
        """The batch is written: memory follows."""
        shard = self.shard
        shard.clocks.follow(shard.views, turn, mono)
        shard.views.update(turn.views)
        shard.cursors.update(turn.batch.cursors)
        shard.history = turn.batch.history or shard.history
        for order in turn.batch.orders:
            shard.outbox.setdefault(order.effect.ticket, {})[order.effect.id] = order
        for effect_id in turn.batch.withdrawn:
            self.forget(effect_id)
        for name in turn.looked:
            self._aside.pop(name, None)
        for name in {*turn.looked, *turn.heard}:
            self._agenda.at(name, shard.clocks.next_look(shard.views[name], turn.mono, self._policy))

    def postpone(self, turn: Turn) -> None:
        """The batch was not written: the next pass looks at the same tickets again."""
        for name in turn.looked:
            if name in self.shard.views:
                self._agenda.at(name, turn.mono)

    def let_go(self, tickets: Collection[str]) -> None:
        """The ledger has forgotten these tickets: memory follows, and knows them for forgotten."""
        shard = self.shard
        for name in tickets:
            shard.past.add(name)
            shard.views.pop(name)
            shard.clocks.drop(name)
            self._agenda.drop(name)
        shard.claimed = {effect_id for effect_id in shard.claimed if effect_id.split(":", 1)[0] not in tickets}

    def hear(self, ticket: str, mono: float) -> None:
        """The worker of the ticket's current state is known to have begun."""
        self.shard.clocks.hear(ticket, mono)
        self._agenda.at(ticket, self.shard.clocks.next_look(self.shard.views[ticket], mono, self._policy))

    def forget(self, effect_id: str) -> None:
        """The order is done or withdrawn."""
        ticket = effect_id.split(":", 1)[0]
        orders = self.shard.outbox.get(ticket, {})
        orders.pop(effect_id, None)
        if not orders:
            self.shard.outbox.pop(ticket, None)

    # --- inside ----------------------------------------------------------------------------------------------------
    def _spared(self, think: Callable[[], Turn]) -> Turn:
        """A turn. What it was made of is thrown away when a ticket brings it to a fall, which is then set aside."""
        while True:
            try:
                return think()
            except Trouble as trouble:
                self.trouble = str(trouble)
                log().error("a ticket cannot be decided about; it is set aside", ticket=trouble.ticket, why=trouble.why)
                # One that cannot even be set aside is passed over.
                self._aside[trouble.ticket] = "" if trouble.ticket in self._aside else trouble.why

    def _take_in(self, turn: Turn, source: Source, raw: bytes, wall: float) -> None:
        try:
            self._take(turn, source, raw, wall)
        except Exception as error:
            # A boundary: a word that this owner cannot fold would end the next one, too. Nothing came of it yet.
            self.trouble = repr(error)[:300]
            log().error("a word cannot be taken in; it is quarantined", source=source.value, why=self.trouble)
            turn.batch.quarantined.append(raw)

    def _take(self, turn: Turn, source: Source, raw: bytes, wall: float) -> None:
        try:
            event = decode_event(raw, source)
        except CodecError:
            turn.batch.quarantined.append(raw)
            return
        view = turn.views.get(event.ticket) or self.shard.views.get(event.ticket)
        if source is Source.ADMISSION and view is not None and not waits_for(view, event.attempt):
            return  # a place told twice; one that nobody wants any more is found by admission itself
        if view is None or isinstance(event.data, TicketAccepted):
            self._accept(turn, view, event, raw)
        elif late.speaks(view, event):
            self._late(turn, view, event, raw, wall)
        elif source is Source.ATTEMPTS and event.attempt != view.attempt:
            _refuse(turn, event, raw)
        elif isinstance(event.data, Heartbeat):
            if event.attempt == view.attempt:
                hear(turn, view, source)
            if source is Source.ATTEMPTS and event.data.last_seq > view.seq:
                self._missing(turn, view, wall, again=True)
        elif source is Source.ATTEMPTS and event.seq != view.seq + 1:
            hear(turn, view, source)
            if event.seq > view.seq:
                self._missing(turn, view, wall, again=False)
        elif stale(view, event):
            turn.batch.quarantined.append(raw)
        else:
            hear(turn, view, source, word=not isinstance(event.data, GUARDS_OWN))
            self._fold(turn, view, event)

    def _late(self, turn: Turn, view: TicketView, event: Envelope, raw: bytes, wall: float) -> None:
        """The lost attempt is back; too late when we know that its successor was claimed."""
        if late.successor(view) in self.shard.claimed:
            _refuse(turn, event, raw)
        elif late.missing(view, event):
            again = isinstance(event.data, Heartbeat)
            self._missing(turn, view, wall, again, view.late.attempt, view.late.seq)
        elif late.next_word(view, event):
            self._fold(turn, view, event)

    def _accept(self, turn: Turn, view: TicketView | None, event: Envelope, raw: bytes) -> None:
        """The same ticket accepted again is the same ticket (I2); anything else about an unknown one is refused."""
        if view is not None:
            return
        ours = shard_of(event.ticket) == self.shard.name and event.ticket not in self.shard.past
        if ours and isinstance(event.data, TicketAccepted) and event.data.ticket.id == event.ticket:
            self._fold(turn, None, event)
        else:
            turn.batch.quarantined.append(raw)

    def _missing(
        self, turn: Turn, view: TicketView, wall: float, again: bool, attempt: int = 0, seq: int | None = None
    ) -> None:
        """Events of an attempt (the newest one) were lost on the way: ask, once per gap and once per heartbeat."""
        attempt, wanted = attempt or view.attempt, (view.seq if seq is None else seq) + 1
        if view.missing_from == wanted and not again:
            return
        if view.missing_from != wanted:
            self._fold(turn, view, self._own(view, EventsMissing(wanted), wall))
        turn.batch.orders.append(say_again(view, attempt, wanted, self.shard.incarnation, wall))

    def _fold(self, turn: Turn, view: TicketView | None, event: Envelope) -> None:
        # The trace follows from the ticket, so that what a worker wrote there need not be believed.
        event = replace(event, trace=self._trace(event.ticket))
        after = fold(view, event)
        stored = self.shard.views.get(event.ticket)
        turn.views[event.ticket] = after
        turn.batch.views[event.ticket] = (stored.version if stored else 0, after)
        turn.batch.log.append(event)
        if isinstance(event.data, Withdrawn):
            self._closed(turn, after, event.data)
        if isinstance(event.data, StatusPosted):
            self._withdraw(turn, after, only=EffectKind.STATUS, upto=event.data.version)
        if isinstance(event.data, CommentHeard) and view is not None and after.heard > view.heard:
            self._withdraw(turn, after, only=EffectKind.STATUS)
            turn.batch.orders.append(self._order(status(after).effect, 0.0))

    def _decide_all(self, turn: Turn, names: Sequence[str], wall: float, mono: float, jitter: float) -> None:
        turn.looked += names
        for name in names:
            try:
                self._decide_about(turn, name, wall, mono, jitter)
            except Exception as error:
                # A boundary: whatever goes wrong with one ticket is not to stop the others.
                raise Trouble(name, error) from error

    def _decide_about(self, turn: Turn, name: str, wall: float, mono: float, jitter: float) -> None:
        why = self._aside.get(name)
        if why == "":
            return
        view = turn.views.get(name) or self.shard.views[name]
        moment = self._moment(turn, view, wall, mono, jitter)
        before = self.shard.views.get(name)
        urgent = raised(before, view)
        tell = urgent or spent_more(before, view)
        for _ in range(20):
            decision = decide(view, moment, self._policy) if why is None else set_aside(view, why)
            if decision is None:
                break
            if decision.unbegun:
                turn.batch.unbegun.append(decision.unbegun)
            if isinstance(decision.event, StateChanged):
                self._withdraw(turn, view)
                turn.moved.add(name)
                turn.heard.discard(name)
                turn.spoke.discard(name)
                moment = Moment(wall, jitter=jitter)
                if decision.event.state is State.CANCELLED:
                    turn.batch.cancelled.append(name)
            if isinstance(decision.event, Nudged):
                moment = replace(moment, quiet=replace(moment.quiet, rung=0.0))
            self._fold(turn, view, self._own(view, decision.event, wall))
            for order in decision.orders:
                turn.batch.orders.append(self._order(order.effect, wall + order.delay))
            view = turn.views[name]
            tell = tell or to_be_told(view, decision.event)
            urgent = urgent or at_once(decision.event)
        else:
            raise InternalError(f"Deciding about {name} does not come to an end.")
        if tell:
            self._tell_people(turn, view, wall, 0.0 if urgent else self._policy.status_every)

    def _moment(self, turn: Turn, view: TicketView, wall: float, mono: float, jitter: float) -> Moment:
        """What was heard in this very pass is no silence."""
        moment = self.shard.clocks.moment(view, wall, mono, jitter)
        if view.id in turn.heard:
            moment = replace(moment, silent=0.0, unclaimed=0.0)
        if view.id in turn.spoke:
            moment = replace(moment, quiet=replace(moment.quiet, word=0.0))
        return moment

    def _tell_people(self, turn: Turn, view: TicketView, wall: float, every: float) -> None:
        self._withdraw(turn, view, only=EffectKind.STATUS)
        due = self.shard.spacing.due(view, every, wall)
        turn.batch.orders.append(self._order(status(view).effect, due))

    def _withdraw(self, turn: Turn, view: TicketView, only: EffectKind | None = None, upto: int | None = None) -> None:
        """A ticket that moved on no longer wants the worker effects of the state it left.

        ``only``: orders of that kind are done instead; of status orders those for views up to version ``upto``.
        """
        known = [*self.shard.outbox.get(view.id, {}).values(), *turn.batch.orders]
        for order in known:
            kind = order.effect.kind
            if order.effect.ticket != view.id or kind not in WAKES:
                continue
            if upto is not None and order.effect.round > upto:
                continue
            if kind is only or (only is None and kind not in (EffectKind.WITHDRAW, EffectKind.STATUS)):
                turn.batch.withdrawn.append(order.effect.id)
        gone = set(turn.batch.withdrawn)
        turn.batch.orders = [order for order in turn.batch.orders if order.effect.id not in gone]

    def _closed(self, turn: Turn, view: TicketView, told: Withdrawn) -> None:
        """What was to be closed is closed. A look that found none ends only itself: a later one may find it."""
        known = [*self.shard.outbox.get(view.id, {}).values(), *turn.batch.orders]
        mine = (order.effect for order in known if order.effect.ticket == view.id)
        closing = (effect for effect in mine if effect.kind is EffectKind.WITHDRAW and effect.turn in (0, told.number))
        turn.batch.withdrawn += [effect.id for effect in closing if told.number or effect.round == told.round]
        turn.batch.orders = [order for order in turn.batch.orders if order.effect.id not in turn.batch.withdrawn]

    def _order(self, effect: Effect, due: float) -> Outstanding:
        return Outstanding(replace(effect, trace=self._trace(effect.ticket)), due)

    def _trace(self, ticket: str) -> str:
        return traceparent(self.shard.incarnation, ticket)

    def _own(self, view: TicketView, data: EventData, wall: float) -> Envelope:
        return Envelope(view.ticket.tenant, view.id, view.attempt, 0, wall, data, Source.SUPERVISOR)


def _refuse(turn: Turn, event: Envelope, raw: bytes) -> None:
    if not isinstance(event.data, Heartbeat):
        turn.batch.quarantined.append(raw)
