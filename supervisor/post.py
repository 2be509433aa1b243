"""The outbox on its way out: an order is sent when it is due, and a worker's order again until somebody begins it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fleet.adapters.crash import crash_here
from fleet.core.codec import encode
from fleet.core.effects import WAKES, Effect, EffectKind
from fleet.core.outbox import Outstanding
from fleet.core.ports import Waker
from fleet.core.retry import RETRY_AFTER_MOST_S
from fleet.core.step import Batch, Shards
from fleet.core.ticket import shard_of
from fleet.core.view import TicketView
from supervisor.admission import Message, request_of
from supervisor.agenda import Agenda
from supervisor.liveness import WORKS
from supervisor.shard import ShardKeeper

# More at once would keep the owner from listening meanwhile.
SEND_MOST = 500
_VERBS = {EffectKind.ASK_SLOT: "ask", EffectKind.RETURN_SLOT: "return"}


class Post:
    """``keepers``: the shards of this supervisor. Nothing here is stored: a new owner begins with every order again."""

    def __init__(self, store: Shards, waker: Waker, keepers: Mapping[str, ShardKeeper], rewake_after: float) -> None:
        self._store = store
        self._waker = waker
        self._keepers = keepers
        self._rewake_after = rewake_after
        self._agenda = Agenda()
        # Work that was sent and that nobody, as far as is known here, has begun.
        self._unbegun: dict[str, Effect] = {}

    def take(self, orders: Iterable[Outstanding], wall: float, mono: float) -> None:
        """Orders of a shard that was just taken: whether they were begun must be looked up again."""
        known = list(orders)
        for order in known:
            self._agenda.drop(order.effect.id)
            self._unbegun.pop(order.effect.id, None)
        self.add(known, wall, mono)

    def add(self, orders: Iterable[Outstanding], wall: float, mono: float) -> None:
        """The pause of an order is measured on the monotonic clock from when we first saw it."""
        for order in orders:
            self._agenda.at(order.effect.id, mono + min(order.due - wall, RETRY_AFTER_MOST_S))

    def clear(self) -> None:
        self._agenda = Agenda()
        self._unbegun.clear()

    def next(self) -> float:
        """The monotonic moment at which something is to be sent."""
        return self._agenda.next()

    def send_due(self, mono: float) -> None:
        """Worker effects stay in the outbox and are sent again until somebody begins them."""
        asks: list[bytes] = []
        done: dict[str, list[str]] = {}
        for name in self._agenda.due(mono, SEND_MOST):
            found = self._find(name)
            if found is None:
                continue  # done or withdrawn meanwhile, or no longer ours
            keeper, effect = found
            if effect.kind in WAKES:
                self._wake(effect, mono)
                continue
            if effect.kind is EffectKind.TELL:
                self._store.tell(effect)
            else:
                asks.append(encode(_message(keeper.shard.views[effect.ticket], effect)))
            done.setdefault(keeper.shard.name, []).append(name)
        if asks:
            self._store.ask_admission(asks)
        for _ in done:
            crash_here("supervisor.sent")
        steps = [(name, self._keepers[name].shard.epoch, Batch(withdrawn=sent)) for name, sent in done.items()]
        self._store.steps(steps)
        for name, sent in done.items():
            for effect_id in sent:
                self._keepers[name].forget(effect_id)

    def sweep(self, mono: float) -> None:
        """Finds orders that were begun: they need no further wake-up, and from now on their worker's silence counts."""
        waiting = []
        for name in list(self._unbegun):
            found = self._find(name)
            if found is None:
                del self._unbegun[name]
            else:
                waiting.append(found)
        begun = self._store.begun([effect for _, effect in waiting])
        for (keeper, effect), is_begun in zip(waiting, begun, strict=True):
            if is_begun:
                if keeper.shard.clocks.unheard(effect):
                    keeper.hear(effect.ticket, mono)
                self._agenda.drop(effect.id)
                del self._unbegun[effect.id]

    def _wake(self, effect: Effect, mono: float) -> None:
        self._waker.wake(effect)
        self._agenda.at(effect.id, mono + self._rewake_after)
        if effect.kind in WORKS:
            self._unbegun[effect.id] = effect

    def _find(self, effect_id: str) -> tuple[ShardKeeper, Effect] | None:
        ticket = effect_id.split(":", 1)[0]
        keeper = self._keepers.get(shard_of(ticket))
        order = keeper.shard.outbox.get(ticket, {}).get(effect_id) if keeper else None
        return (keeper, order.effect) if keeper and order else None


def _message(view: TicketView, effect: Effect) -> Message:
    verb = _VERBS.get(effect.kind) or ("pr_open" if effect.data == "open" else "pr_closed")
    return Message(verb, request_of(view, effect.attempt))
