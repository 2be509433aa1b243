"""The ledger as every role sees it: read the record, write one's own inbound stream, begin effects.

The Redis user of the given client decides what it may write (``fleet.adapters.acl``); this class only knows where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fleet.adapters import keys
from fleet.adapters.redis_client import Asking, FleetRedis, load_lua, wait_aof
from fleet.adapters.segments import Segments
from fleet.core.archive import Segment
from fleet.core.codec import decode, decode_event, encode, encode_event
from fleet.core.effects import BEGUN_BY, Effect, EffectKind
from fleet.core.errors import InternalError, TemporaryError
from fleet.core.events import Envelope, Source
from fleet.core.gates import Approval, GatePlanRecord, GateRecord, VerdictRecord
from fleet.core.outbox import Outstanding
from fleet.core.past import Past
from fleet.core.ports import Artifacts
from fleet.core.recovery import Taken
from fleet.core.ticket import all_shards, shard_of
from fleet.core.view import Hold, TicketView

# Compensations and the status comment may begin again, and after a cancel: they are idempotent by themselves.
_REPEATABLE = frozenset({EffectKind.WITHDRAW, EffectKind.STATUS})


class RedisLedger(Asking):
    """Implements ``fleet.core.ports.Ledger`` on Redis or Valkey. ``artifacts``: where sealed parts of logs lie."""

    def __init__(self, client: FleetRedis, artifacts: Callable[[], Artifacts] | None = None) -> None:
        self._redis = client
        self._segments = Segments(artifacts)
        self._begin = client.register_script(load_lua("begin"))

    # --- reading ---------------------------------------------------------------------------------------------------
    def view(self, ticket: str) -> TicketView | None:
        raw = self._ask(self._redis.hget, keys.of(shard_of(ticket), "view"), ticket)
        return decode(raw, TicketView) if raw else None

    def views(self) -> Iterator[TicketView]:
        for shard in all_shards():
            for raw in self._ask(self._redis.hvals, keys.of(shard, "view")):
                yield decode(raw, TicketView)

    def log(self, ticket: str, after: str = "0", block_ms: int | None = None) -> Sequence[tuple[str, Envelope]]:
        """Raises DamagedSegment when the next part was sealed and is not what it was."""
        found = self._log(ticket, after)
        if found or block_ms is None:
            return found
        if not self._ask(self._redis.xread, {keys.log(ticket): after}, block=block_ms, count=1):
            return []
        return self._log(ticket, after)

    def _log(self, ticket: str, after: str) -> Sequence[tuple[str, Envelope]]:
        """The stream is read first: what is sealed in between is then in both, and not in neither."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.xread({keys.log(ticket): after}, count=1000)
        pipe.hget(keys.of(shard_of(ticket), "sealed"), ticket)
        found, sealed = self._ask(pipe.execute)
        rows = self._segments.joined(list(_entries(found)), sealed, after)
        return [(cursor, decode_event(raw)) for cursor, raw in rows]

    def sealed(self, ticket: str) -> tuple[Segment, ...]:
        """The parts of the ticket's log that were sealed, oldest first."""
        raw = self._ask(self._redis.hget, keys.of(shard_of(ticket), "sealed"), ticket)
        return decode(raw, tuple[Segment, ...]) if raw else ()

    def all_sealed(self) -> set[str]:
        """The names of all segments that the ledger knows of."""
        found = (raw for shard in all_shards() for raw in self._ask(self._redis.hvals, keys.of(shard, "sealed")))
        return {segment.name for raw in found for segment in decode(raw, tuple[Segment, ...])}

    def past(self, ticket: str) -> Past | None:
        """What is remembered of a ticket that was forgotten."""
        raw = self._ask(self._redis.hget, keys.of(shard_of(ticket), "past"), ticket)
        return decode(raw, Past) if raw else None

    def quarantine(self) -> Sequence[bytes]:
        """What was refused, newest last, of all shards; for ``fleet doctor`` and people on call."""
        return [
            fields[b"e"]
            for shard in all_shards()
            for _, fields in self._ask(self._redis.xrange, keys.of(shard, "quarantine"))
        ]

    def why(self, ticket: str) -> str:
        """Why admission lets the ticket wait; empty when it does not."""
        raw = self._ask(self._redis.hget, keys.of(keys.ADMISSION, "why"), ticket)
        return raw.decode() if raw else ""

    def outbox(self, effect_id: str, ticket: str) -> Effect | None:
        raw = self._ask(self._redis.hget, keys.of(shard_of(ticket), "outbox"), effect_id)
        return decode(raw, Outstanding).effect if raw else None

    def incarnation(self) -> str:
        raw = self._ask(self._redis.hget, keys.META, "incarnation")
        if not raw:
            raise TemporaryError("The ledger was not opened yet.", "Is a supervisor running?")
        return str(raw.decode())

    def held(self) -> Hold | None:
        """Who paused the whole fleet; None while it works."""
        raw = self._ask(self._redis.get, keys.HOLD)
        return decode(raw, Hold) if raw else None

    def recovered(self) -> dict[str, Taken]:
        """Ticket → when it was taken up again after this ledger's predecessor was lost, and what it had spent."""
        found: dict[bytes, bytes] = self._ask(self._redis.hgetall, keys.RECOVERED)
        return {name.decode(): decode(raw, Taken) for name, raw in found.items()}

    # --- writing one's own -----------------------------------------------------------------------------------------
    def send(self, source: Source, events: Sequence[Envelope], durable: bool = False) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for event in events:
            if event.source is not source:
                raise InternalError(f"{event.kind} says it comes from {event.source.value}, not {source.value}.")
            pipe.xadd(keys.inbound(event.ticket, source), {"e": encode_event(event)})
        self._ask(pipe.execute)
        if durable:
            self._ask(wait_aof, self._redis)

    def note_recovered(self, ticket: str, taken: Taken) -> None:
        """Only the role ``intake`` may. Once per ticket: the first word stands."""
        self._ask(self._redis.hsetnx, keys.RECOVERED, ticket, encode(taken))

    def hold(self, hold: Hold | None) -> None:
        """Pauses the whole fleet, or lets it go on; on disk before this returns."""
        if hold is None:
            self._ask(self._redis.delete, keys.HOLD)
        else:
            self._ask(self._redis.set, keys.HOLD, encode(hold))
        self._ask(wait_aof, self._redis)

    def begin(self, role: str, effect: Effect, owner: str) -> bool:
        if BEGUN_BY.get(effect.kind) != role:
            raise InternalError(f"{role} may not begin {effect.kind.value}.")
        shard = shard_of(effect.ticket)
        names = [keys.of(shard, "begun", role), keys.of(shard, "outbox"), keys.of(shard, "cancelled")]
        again = "1" if effect.kind in _REPEATABLE else "0"
        mine = self._ask(self._begin, keys=names, args=[effect.id, effect.ticket, owner, again])
        if mine:
            self._ask(wait_aof, self._redis)
        return bool(mine)

    def claim(self, ticket: str, attempt: int, owner: str) -> bool:
        """The attempt's own ``begin``: (ticket, attempt) is single-use."""
        return self.begin("agents", Effect(EffectKind.START_ATTEMPT, ticket, attempt), owner)

    def put_gate_plan(self, record: GatePlanRecord) -> None:
        self._put(record.ticket, f"plan:{record.attempt}:{record.head}", encode(record))

    def put_gate_record(self, record: GateRecord) -> None:
        self._put(record.ticket, f"gate:{record.attempt}:{record.head}:{record.name}", encode(record))

    def put_verdict(self, record: VerdictRecord) -> None:
        self._put(record.ticket, f"verdict:{record.attempt}:{record.round}", encode(record))
        self._ask(wait_aof, self._redis)

    def _put(self, ticket: str, field: str, raw: bytes) -> None:
        self._ask(self._redis.hset, keys.gates(ticket), field, raw)

    # --- gate records ----------------------------------------------------------------------------------------------
    def gate_plan(self, ticket: str, attempt: int, head: str) -> GatePlanRecord | None:
        raw = self._ask(self._redis.hget, keys.gates(ticket), f"plan:{attempt}:{head}")
        return decode(raw, GatePlanRecord) if raw else None

    def gate_records(self, ticket: str, attempt: int, head: str) -> tuple[GateRecord, ...]:
        start = f"gate:{attempt}:{head}:".encode()
        fields: dict[bytes, bytes] = self._ask(self._redis.hgetall, keys.gates(ticket))
        return tuple(decode(raw, GateRecord) for name, raw in sorted(fields.items()) if name.startswith(start))

    def verdict(self, ticket: str, attempt: int, round: int) -> VerdictRecord | None:
        raw = self._ask(self._redis.hget, keys.gates(ticket), f"verdict:{attempt}:{round}")
        return decode(raw, VerdictRecord) if raw else None

    def put_approval(self, record: Approval) -> None:
        field = f"{record.attempt}:{record.head}"
        self._ask(self._redis.hset, keys.approvals(record.ticket), field, encode(record))
        self._ask(wait_aof, self._redis)

    def approvals(self, ticket: str) -> tuple[Approval, ...]:
        fields: dict[bytes, bytes] = self._ask(self._redis.hgetall, keys.approvals(ticket))
        return tuple(decode(raw, Approval) for _, raw in sorted(fields.items()))

    def commands(self, ticket: str, attempt: int, after: str, block_ms: int) -> Sequence[tuple[str, bytes]]:
        found = self._ask(self._redis.xread, {keys.tell(ticket, attempt): after or "0"}, block=block_ms or None)
        return list(_entries(found))


class RedisAttemptChannel:
    """Implements ``fleet.core.ports.AttemptChannel``: an attempt's few words with the ledger.

    ``incarnation``: of the ledger that ordered the attempt; empty: whichever is there. Another one, which took its
    place after it was lost, knows nothing of this attempt, though one of its own may have the same number: it gives no
    claim, shows no ticket (so the attempt stops), and hears nothing.
    """

    def __init__(self, ledger: RedisLedger, incarnation: str = "") -> None:
        self._ledger = ledger
        self._incarnation = incarnation
        self.commands = ledger.commands

    def claim(self, ticket: str, attempt: int, owner: str) -> bool:
        return self._same() and self._ledger.claim(ticket, attempt, owner)

    def view(self, ticket: str) -> TicketView | None:
        return self._ledger.view(ticket) if self._same() else None

    def send(self, events: Sequence[Envelope]) -> None:
        if self._same():
            self._ledger.send(Source.ATTEMPTS, events)

    def _same(self) -> bool:
        """Raises TemporaryError while the ledger has no name: nobody has opened the new one yet."""
        return not self._incarnation or self._ledger.incarnation() == self._incarnation


def _entries(found: Any) -> Iterator[tuple[str, bytes]]:
    """(cursor, payload) of an XREAD answer, whichever protocol version wrote it."""
    streams = found.items() if isinstance(found, dict) else found or ()
    for _, entries in streams:
        for name, fields in entries:
            yield name.decode(), fields[b"e"]
