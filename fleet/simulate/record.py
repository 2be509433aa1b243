"""The store in memory, with the meaning that the Lua scripts and the ledger's adapter give it on Redis.

``Protections`` switches off what guards the promises, one at a time, so that tests see the checks notice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.adapters import keys
from fleet.core.codec import encode, encode_event
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import Envelope, Source
from fleet.core.gates import Approval, GatePlanRecord, GateRecord, VerdictRecord
from fleet.core.outbox import Outstanding
from fleet.core.step import Batch
from fleet.core.ticket import all_shards, shard_of
from fleet.core.view import Hold, TicketView

READ_MOST = 500
LEASE_S = 4.0
_REPEATABLE = frozenset({EffectKind.WITHDRAW, EffectKind.STATUS})


@dataclass(frozen=True, slots=True)
class Protections:
    """All on in the fleet. ``wanted``: nothing begins that was withdrawn or whose ticket is cancelled; ``unbegun``: a
    lost attempt hands nothing over once its successor was claimed.
    """

    single_use: bool = True
    wanted: bool = True
    epoch: bool = True
    push_lease: bool = True
    look_up: bool = True
    bound_pass: bool = True
    result_last: bool = True
    unbegun: bool = True


@dataclass(slots=True)
class Shelf:
    """What the store keeps of one shard."""

    epoch: int = 0
    owner: str = ""
    until: float = 0.0
    views: dict[str, TicketView] = field(default_factory=dict)
    raws: dict[str, tuple[TicketView, bytes]] = field(default_factory=dict)
    outbox: dict[str, Outstanding] = field(default_factory=dict)
    cursors: dict[Source, str] = field(default_factory=dict)

    def encoded(self) -> dict[str, bytes]:
        """The views as the store keeps them; each is encoded when it is first asked for."""
        for name, view in self.views.items():
            known = self.raws.get(name)
            if known is None or known[0] is not view:
                self.raws[name] = (view, encode(view))
        return {name: raw for name, (_, raw) in self.raws.items()}


@dataclass(slots=True)
class Admission:
    """What the store keeps of admission."""

    waiting: dict[str, bytes] = field(default_factory=dict)
    grants: dict[str, bytes] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)
    cursor: str = "0"
    asked: list[tuple[int, bytes]] = field(default_factory=list)


class Record:
    """``stepped`` is called after every step that was written, ``begun`` after every order that somebody began."""

    def __init__(self, now: Callable[[], float], protections: Protections) -> None:
        self._now = now
        self._protections = protections
        self._number = 0
        self.shelves = {name: Shelf() for name in (*all_shards(), keys.ADMISSION)}
        self.admission = Admission()
        self.members: dict[str, float] = {}
        self.inbound: dict[tuple[str, Source], list[tuple[int, bytes]]] = {}
        self.log: dict[str, list[Envelope]] = {}
        self.owners: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.told: dict[tuple[str, int], list[tuple[str, bytes]]] = {}
        self.plans: dict[tuple[str, int, str], GatePlanRecord] = {}
        self.gates: dict[tuple[str, int, str], dict[str, GateRecord]] = {}
        self.verdicts: dict[tuple[str, int, int], VerdictRecord] = {}
        self.approved: dict[str, list[Approval]] = {}
        self.hold: Hold | None = None
        self.quarantined = 0
        self.take_overs = 0
        self._first_epoch = 1_000
        self.stepped: Callable[[Batch], None] = lambda _: None
        self.begun: Callable[[Effect, str], None] = lambda *_: None

    # --- leases ----------------------------------------------------------------------------------------------------
    def announce(self, member: str) -> int:
        now = self._now()
        self.members[member] = now
        self.members = {name: at for name, at in self.members.items() if at > now - LEASE_S}
        return len(self.members)

    def lease(self, name: str, member: str) -> tuple[int, bool]:
        """As lua/lease.lua."""
        shelf, now = self.shelves[name], self._now()
        if shelf.owner == member and shelf.until > now:
            shelf.until = now + LEASE_S
            return shelf.epoch, False
        if shelf.owner and shelf.until > now:
            return 0, False
        shelf.owner, shelf.until = member, now + LEASE_S
        self.take_overs += shelf.epoch > 0
        shelf.epoch = (shelf.epoch or self._first_epoch) + 1
        return shelf.epoch, True

    def release(self, name: str, member: str) -> None:
        if self.shelves[name].owner == member:
            self.shelves[name].owner = ""

    def skip(self, seconds: float) -> None:
        """Leases last through time in which nothing happens."""
        self.members = {name: at + seconds for name, at in self.members.items()}
        for shelf in self.shelves.values():
            shelf.until += seconds

    # --- streams ---------------------------------------------------------------------------------------------------
    def put(self, event: Envelope) -> None:
        """Appends to the inbound stream of the event's source and shard."""
        self._number += 1
        self.inbound.setdefault((shard_of(event.ticket), event.source), []).append((self._number, encode_event(event)))

    def ask(self, raw: bytes) -> None:
        self._number += 1
        self.admission.asked.append((self._number, raw))

    def inbound_waits(self) -> bool:
        """Whether something was said that no owner has taken in yet."""
        return any(
            rows and rows[-1][0] > int(self.shelves[name].cursors.get(source, "0"))
            for (name, source), rows in self.inbound.items()
        )

    def read(self, cursors: Mapping[tuple[str, Source], str]) -> dict[tuple[str, Source], list[tuple[str, bytes]]]:
        found = {}
        for where, rows in self.inbound.items():
            after = cursors.get(where)
            if after is not None and rows and rows[-1][0] > int(after):
                found[where] = _after(rows, int(after))
        return found

    def read_admission(self, cursor: str) -> list[tuple[str, bytes]]:
        return _after(self.admission.asked, int(cursor))

    # --- the atomic step -------------------------------------------------------------------------------------------
    def step(self, name: str, epoch: int, batch: Batch) -> str:
        """As lua/step.lua: OK, EPOCH, VERSION or BEGUN."""
        shelf = self.shelves[name]
        if self._protections.epoch and (shelf.epoch != epoch or not epoch):
            return "EPOCH"
        for ticket, (expected, _) in batch.views.items():
            known = shelf.views.get(ticket)
            if self._protections.epoch and (known.version if known else 0) != expected:
                return f"VERSION {ticket}"
        for effect_id in batch.unbegun:
            if self._protections.unbegun and effect_id in self.owners:
                return f"BEGUN {effect_id}"
        for ticket, (_, view) in batch.views.items():
            shelf.views[ticket] = view
        for event in batch.log:
            self.log.setdefault(event.ticket, []).append(event)
        for order in batch.orders:
            shelf.outbox[order.effect.id] = order
        for effect_id in batch.withdrawn:
            shelf.outbox.pop(effect_id, None)
        self.cancelled.update(batch.cancelled)
        for source, cursor in batch.cursors.items():
            shelf.cursors[source] = cursor
            rows = self.inbound.get((name, source))
            if rows:
                self.inbound[name, source] = [row for row in rows if row[0] > int(cursor)]
        self.quarantined += len(batch.quarantined)
        self.stepped(batch)
        return "OK"

    def step_admission(self, epoch: int, operations: Sequence[str | bytes]) -> bool:
        """As lua/admission.lua."""
        if self._protections.epoch and (self.shelves[keys.ADMISSION].epoch != epoch or not epoch):
            return False
        todo = iter(operations)
        desk = self.admission
        for verb in todo:
            field_ = str(next(todo))
            match verb:
                case "K":
                    desk.cursor = field_
                    desk.asked = [row for row in desk.asked if row[0] > int(field_)]
                case "W":
                    desk.waiting[field_] = _bytes(next(todo))
                case "w":
                    desk.waiting.pop(field_, None)
                case "G":
                    desk.grants[field_] = _bytes(next(todo))
                case "g":
                    desk.grants.pop(field_, None)
                case "P":
                    desk.pulls[field_] = str(next(todo))
                case "p":
                    desk.pulls.pop(field_, None)
                case "Y":
                    next(todo)
        return True

    def begin(self, effect: Effect, owner: str) -> bool:
        """As lua/begin.lua."""
        known = self.owners.get(effect.id)
        if effect.kind in _REPEATABLE:
            if effect.id not in self.shelves[shard_of(effect.ticket)].outbox:
                return False
        elif self._protections.wanted and effect.id not in self.shelves[shard_of(effect.ticket)].outbox:
            return False
        elif known is not None and self._protections.single_use:
            return known == owner
        elif self._protections.wanted and effect.ticket in self.cancelled:
            return False
        self.owners[effect.id] = owner
        if known != owner:
            self.begun(effect, known or "")
        return True

    # --- what everybody reads --------------------------------------------------------------------------------------
    def view(self, ticket: str) -> TicketView | None:
        return self.shelves[shard_of(ticket)].views.get(ticket)

    def order(self, effect_id: str, ticket: str) -> Effect | None:
        found = self.shelves[shard_of(ticket)].outbox.get(effect_id)
        return found.effect if found else None

    def tell(self, effect: Effect) -> None:
        self._number += 1
        self.told.setdefault((effect.ticket, effect.attempt), []).append((str(self._number), effect.data.encode()))


def _after(rows: Sequence[tuple[int, bytes]], cursor: int) -> list[tuple[str, bytes]]:
    first = bisect_right(rows, cursor, key=_number)
    return [(str(number), raw) for number, raw in rows[first : first + READ_MOST]]


def _number(row: tuple[int, bytes]) -> int:
    return row[0]


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
