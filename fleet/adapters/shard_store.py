"""The ledger as the supervisor writes it: leases, inbound streams, the atomic step, admission's own step.

Only the supervisor's Redis user may do this. Every write carries the shard's epoch, so an owner that was frozen and
replaced meanwhile is refused (``Refused``) and drops the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.adapters import keys
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import Asking, FleetRedis, load_lua, wait_aof
from fleet.core.codec import decode, encode, encode_event
from fleet.core.effects import BEGUN_BY, Effect
from fleet.core.events import Envelope, Source
from fleet.core.ports import Ids
from fleet.core.step import Batch, Loaded, Refused, Step
from fleet.core.ticket import shard_of
from fleet.core.view import Hold

READ_MOST = 500


class ShardStore(Asking):
    """Implements ``fleet.core.step.Shards`` on Redis or Valkey. Raises TemporaryError while the store is away."""

    def __init__(self, client: FleetRedis, member: str, lease_ms: int = 3500, ids: Ids | None = None) -> None:
        self._redis = client
        self._ids = ids or SystemIds()
        self._member = member
        self._lease_ms = lease_ms
        self.incarnation = ""
        self._step = client.register_script(load_lua("step"))
        self._lease = client.register_script(load_lua("lease"))
        self._release = client.register_script(load_lua("release"))
        self._admission = client.register_script(load_lua("admission"))

    def open(self, incarnation: str) -> str:
        """Names this ledger on its first opening; answers the name that holds."""
        self._ask(self._redis.hsetnx, keys.META, "incarnation", incarnation)
        self.incarnation = str(self._ask(self._redis.hget, keys.META, "incarnation").decode())
        return self.incarnation

    # --- membership and leases -------------------------------------------------------------------------------------
    def announce(self) -> int:
        """Says that this supervisor lives; answers how many do. Raises Refused when this is another ledger than the one
        that was opened: it was lost, and what is in memory is of the old one. A nameless ledger gets its name here.
        """
        seconds, micros = self._ask(self._redis.time)
        now = seconds * 1000 + micros // 1000
        pipe = self._redis.pipeline(transaction=False)
        pipe.zadd(keys.MEMBERS, {self._member: now})
        pipe.zremrangebyscore(keys.MEMBERS, "-inf", now - self._lease_ms)
        pipe.zcard(keys.MEMBERS)
        pipe.hget(keys.META, "incarnation")
        *_, members, name = self._ask(pipe.execute)
        before = self.incarnation
        if before and (name is None or name.decode() != before):
            raise Refused(f"The ledger {before} is gone; this one is {self.open(self._ids.hex(16))}.")
        return int(members)

    def leave(self, shards: Iterable[str]) -> None:
        for shard in shards:
            self.release(shard)
        self._ask(self._redis.zrem, keys.MEMBERS, self._member)

    def lease(self, shard: str) -> tuple[int, bool]:
        """(epoch, newly taken); epoch 0 means that somebody else owns the shard."""
        names = [keys.of(shard, "owner"), keys.of(shard, "epoch")]
        epoch, new = self._ask(self._lease, keys=names, args=[self._member, self._lease_ms])
        return int(epoch), bool(new)

    def renew(self, shards: Sequence[str]) -> dict[str, int]:
        """Renews the leases in one round trip; answers the epoch per shard, 0 where the lease was lost."""
        pipe = self._redis.pipeline(transaction=False)
        for shard in shards:
            names = [keys.of(shard, "owner"), keys.of(shard, "epoch")]
            self._lease(keys=names, args=[self._member, self._lease_ms], client=pipe)
        answers = self._ask(pipe.execute)
        return {shard: 0 if new else int(epoch) for shard, (epoch, new) in zip(shards, answers, strict=True)}

    def release(self, shard: str) -> None:
        self._ask(self._release, keys=[keys.of(shard, "owner")], args=[self._member])

    def history(self) -> str:
        """The server's replication id: a promoted replica has another one, and so has a server that was restarted."""
        return str(self._ask(self._redis.info, "replication")["master_replid"])

    def held(self) -> Hold | None:
        """Who paused the whole fleet; None while it works."""
        raw = self._ask(self._redis.get, keys.HOLD)
        return decode(raw, Hold) if raw else None

    # --- a shard ---------------------------------------------------------------------------------------------------
    def load(self, shard: str) -> Loaded:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(keys.of(shard, "view"))
        pipe.hgetall(keys.of(shard, "outbox"))
        pipe.hgetall(keys.of(shard, "cursor"))
        pipe.get(keys.of(shard, "history"))
        views, outbox, cursors, history = self._ask(pipe.execute)
        return Loaded(
            {name.decode(): raw for name, raw in views.items()},
            {name.decode(): raw for name, raw in outbox.items()},
            {Source(name.decode()): raw.decode() for name, raw in cursors.items()},
            history.decode() if history else "",
        )

    def read(
        self, cursors: Mapping[tuple[str, Source], str], admission: str | None, block_ms: int
    ) -> tuple[dict[tuple[str, Source], list[tuple[str, bytes]]], list[tuple[str, bytes]]]:
        """New entries after the cursors, per shard and source, and those of admission when its cursor is given.

        ``block_ms``: how long to wait for the first of them; 0 does not wait.
        """
        wanted: dict[Any, Any] = {keys.of(shard, "in", source.value): at for (shard, source), at in cursors.items()}
        names = {keys.of(shard, "in", source.value): (shard, source) for shard, source in cursors}
        if admission is not None:
            wanted[keys.of(keys.ADMISSION, "in")] = admission
        if not wanted:
            return {}, []
        waiting = ("BLOCK", block_ms) if block_ms else ()
        # Two words make redis-py leave the answer as it came: a dictionary for each entry costs a fifth of the pass.
        asking = ("XREAD COUNT", READ_MOST, *waiting, "STREAMS", *wanted, *wanted.values())
        found = self._ask(self._redis.execute_command, *asking) or ()
        shards: dict[tuple[str, Source], list[tuple[str, bytes]]] = {}
        asked: list[tuple[str, bytes]] = []
        for stream, entries in found:
            rows = [(name.decode(), _payload(fields)) for name, fields in entries]
            where = names.get(stream.decode())
            if where is None:
                asked = rows
            else:
                shards[where] = rows
        return shards, asked

    def step(self, shard: str, epoch: int, batch: Batch) -> None:
        """All of the batch or nothing. Raises Refused when the shard is no longer ours."""
        self.steps([(shard, epoch, batch)])

    def steps(self, steps: Sequence[Step]) -> frozenset[str]:
        """Several shards' steps in one round trip, each all or nothing by itself. Raises Refused for the first that
        is no longer ours; the others are then written all the same. Answers what ``Shards.steps`` says.
        """
        if not steps:
            return frozenset()
        pipe = self._redis.pipeline(transaction=False)
        for shard, epoch, batch in steps:
            self._step(keys=[keys.of(shard, "epoch")], args=step_arguments(shard, epoch, batch), client=pipe)
        begun = set()
        for (shard, epoch, _), answer in zip(steps, self._ask(pipe.execute), strict=True):
            said, _, effect_id = answer.decode().partition(" ")
            if said == "BEGUN":
                begun.add(effect_id)
            elif said != "OK":
                raise Refused(f"Shard {shard} refused a step of epoch {epoch}: {answer.decode()}.")
        return frozenset(begun)

    def begun(self, effects: Sequence[Effect]) -> list[bool]:
        """Whether somebody has begun each effect."""
        pipe = self._redis.pipeline(transaction=False)
        for effect in effects:
            pipe.hexists(keys.of(shard_of(effect.ticket), "begun", BEGUN_BY[effect.kind]), effect.id)
        return [bool(answer) for answer in self._ask(pipe.execute)]

    def tell(self, effect: Effect) -> None:
        stream = keys.tell(effect.ticket, effect.attempt)
        self._ask(self._redis.xadd, stream, {"e": effect.data.encode()}, maxlen=1000)

    def durable(self) -> None:
        self._ask(wait_aof, self._redis)

    # --- admission -------------------------------------------------------------------------------------------------
    def ask_admission(self, raws: Sequence[bytes]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for raw in raws:
            pipe.xadd(keys.of(keys.ADMISSION, "in"), {"e": raw})
        self._ask(pipe.execute)

    def grant(self, events: Sequence[Envelope]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for event in events:
            pipe.xadd(keys.inbound(event.ticket, Source.ADMISSION), {"e": encode_event(event)})
        self._ask(pipe.execute)

    def load_admission(self) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, str], str]:
        """Waiting requests, grants, open pull requests (ticket → repo), cursor."""
        pipe = self._redis.pipeline(transaction=False)
        for name in ("waiting", "grants", "prs"):
            pipe.hgetall(keys.of(keys.ADMISSION, name))
        pipe.get(keys.of(keys.ADMISSION, "cursor"))
        waiting, grants, pulls, cursor = self._ask(pipe.execute)
        return (
            {name.decode(): raw for name, raw in waiting.items()},
            {name.decode(): raw for name, raw in grants.items()},
            {name.decode(): raw.decode() for name, raw in pulls.items()},
            cursor.decode() if cursor else "0",
        )

    def step_admission(self, epoch: int, operations: Sequence[str | bytes]) -> None:
        names = [keys.of(keys.ADMISSION, "epoch")]
        answer = self._ask(self._admission, keys=names, args=[epoch, *operations])
        if answer != b"OK":
            raise Refused(f"Admission refused a step of epoch {epoch}.")


def _payload(fields: Sequence[bytes]) -> bytes:
    """The field ``e`` of an entry; empty when somebody wrote another one, so that it is quarantined."""
    if len(fields) == 2 and fields[0] == b"e":
        return fields[1]
    return dict(zip(fields[::2], fields[1::2], strict=False)).get(b"e", b"")


def step_arguments(shard: str, epoch: int, batch: Batch) -> list[Any]:
    """The flat argument list of lua/step.lua."""
    out: list[Any] = [keys.prefix(shard), epoch]
    for ticket, (expected, view) in batch.views.items():
        out += ["V", ticket, expected, view.version, encode(view)]
        out += ["D", ticket, "" if view.until is None else view.until]
    for event in batch.log:
        out += ["L", event.ticket, encode_event(event)]
    for order in batch.orders:
        out += ["O", order.effect.id, encode(order)]
    for effect_id in batch.withdrawn:
        out += ["X", effect_id]
    for effect_id in batch.unbegun:
        out += ["U", effect_id]
    for ticket in batch.cancelled:
        out += ["C", ticket]
    for raw in batch.quarantined:
        out += ["Q", raw]
    for source, cursor in batch.cursors.items():
        out += ["K", source.value, cursor]
    if batch.history:
        out += ["H", batch.history]
    return out
