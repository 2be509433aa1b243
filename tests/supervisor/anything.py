"""What a shard is tried with: tickets, the words of the world outside, and a store of a few dictionaries."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st

from fleet.core.codec import decode, decode_event, encode, encode_event
from fleet.core.effects import Effect
from fleet.core.events import (
    AttemptFailed,
    Envelope,
    EventData,
    GatesFailed,
    GatesFinished,
    GatesStarted,
    Source,
)
from fleet.core.outbox import Outstanding
from fleet.core.retry import FailureClass
from fleet.core.states import State
from fleet.core.step import Batch
from fleet.core.ticket import TicketLimits, shard_of
from fleet.core.view import TicketView
from tests.support.tickets import ticket

FEW = TicketLimits(attempts=2, gate_rounds=2)
SHARD = shard_of(ticket(1).id)
TICKETS = [
    ticket(1, limits=FEW),
    next(other for n in range(2, 500) if shard_of((other := ticket(n, agent="anthropic", limits=FEW)).id) == SHARD),
]
HEADS = ["1" * 40, "2" * 40]
which = st.integers(0, len(TICKETS) - 1)
STAGES = [State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING, State.IN_REVIEW]
# How the first attempts of a ticket failed before anything else happens to it.
PASTS = st.sampled_from(
    [
        *[()] * 6,
        (FailureClass.COMMAND_FAILED,),
        (FailureClass.CONFIG,),
        (FailureClass.TRANSIENT, FailureClass.TRANSIENT),
    ]
)
FAILURES = [AttemptFailed(kind, "what happened") for kind in FailureClass]


REACHED = Counter[State]()


def gate_words(round_: int, head: str) -> list[EventData]:
    return [
        GatesStarted(round_, head, "b", ("tests",)),
        GatesFinished(round_, head, "b", True, "ok"),
        GatesFinished(round_, head, "b", False, "red"),
        GatesFinished(round_, head, "b", False, "look", needs="approval"),
        GatesFinished(round_, head, "b", False, "machine", infrastructure=True),
        GatesFailed(round_, "x"),
        GatesFailed(round_, "x", conflict=True),
    ]


class Store:
    """What the ledger keeps of one shard; versions and the epoch are checked as in lua/step.lua."""

    def __init__(self) -> None:
        self.epoch = 1
        self.views: dict[str, TicketView] = {}
        self.log: dict[str, list[Envelope]] = {}
        self.outbox: dict[str, Outstanding] = {}
        self.cancelled: set[str] = set()
        self.cursors: dict[Source, str] = {}
        self.quarantined: list[bytes] = []
        self.begun: set[str] = set()

    def step(self, epoch: int, batch: Batch) -> None:
        assert epoch == self.epoch
        for name, (expected, _) in batch.views.items():
            assert expected == (self.views[name].version if name in self.views else 0)
        for name, (_, view) in batch.views.items():
            self.views[name] = decode(encode(view), TicketView)
        for event in batch.log:
            self.log.setdefault(event.ticket, []).append(decode_event(encode_event(event)))
        self.outbox |= {order.effect.id: order for order in batch.orders}
        for effect_id in batch.withdrawn:
            self.outbox.pop(effect_id, None)
        self.cancelled |= set(batch.cancelled)
        self.cursors |= batch.cursors
        self.quarantined += batch.quarantined

    def begin(self, effect: Effect) -> bool:
        """As lua/begin.lua."""
        if effect.id not in self.outbox or effect.id in self.begun or effect.ticket in self.cancelled:
            return False
        self.begun.add(effect.id)
        return True
