"""What leaves the ledger, on Redis or Valkey. Written by the owner of a shard, under its epoch, as the step is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.adapters import keys
from fleet.adapters.redis_client import Asking, FleetRedis, load_lua
from fleet.core.archive import Row, Segment, following, sealed_upto
from fleet.core.codec import decode, encode
from fleet.core.effects import BEGUN_BY
from fleet.core.past import Past
from fleet.core.step import Refused

_SCAN = 1000


class ArchiveStore(Asking):
    """Implements ``fleet.core.archive.Archive``. ``client``: of the role ``supervisor``."""

    def __init__(self, client: FleetRedis) -> None:
        self._redis = client
        self._step = client.register_script(load_lua("archive"))

    def sealed(self, shard: str) -> Mapping[str, tuple[Segment, ...]]:
        found = self._ask(self._redis.hgetall, keys.of(shard, "sealed"))
        return {ticket.decode(): decode(raw, tuple[Segment, ...]) for ticket, raw in found.items()}

    def past(self, shard: str) -> set[str]:
        return {name.decode() for name in self._ask(self._redis.hkeys, keys.of(shard, "past"))}

    def rows(self, ticket: str, after: str, most: int) -> list[Row]:
        found = self._ask(self._redis.xrange, keys.log(ticket), min=following(after), count=most)
        return [(cursor.decode(), fields[b"e"]) for cursor, fields in found]

    def seal(self, shard: str, epoch: int, ticket: str, segments: Sequence[Segment], gone: Sequence[str] = ()) -> None:
        _, cursor = sealed_upto(segments)
        operations = ["S", ticket, encode(segments), following(cursor)]
        for key in gone:
            operations += ["U", _below(shard, key)]
        self._write(shard, epoch, operations)

    def forget(self, shard: str, epoch: int, tickets: Mapping[str, tuple[int, Past]]) -> None:
        operations: list[Any] = []
        for ticket, (version, past) in tickets.items():
            operations += ["F", ticket, version, encode(past)]
            operations += ["U", _below(shard, keys.gates(ticket)), "U", _below(shard, keys.approvals(ticket))]
        for role, effect_id in self._begun(shard, tickets):
            operations += ["B", role, effect_id]
        self._write(shard, epoch, operations)
        # Last: a crash before this leaves a few bytes, and never a ticket whose spend is forgotten before itself.
        self._ask(self._redis.unlink, *(keys.spent(ticket) for ticket in tickets))

    def _begun(self, shard: str, tickets: Mapping[str, object]) -> Iterable[tuple[str, bytes]]:
        """(role, effect id) of everything that somebody began for these tickets: one walk for all of them."""
        for role in sorted(set(BEGUN_BY.values())):
            cursor = 0
            while True:
                name = keys.of(shard, "begun", role)
                cursor, found = self._ask(self._redis.hscan, name, cursor=cursor, count=_SCAN)
                yield from ((role, one) for one in found if one.split(b":", 1)[0].decode() in tickets)
                if not cursor:
                    break

    def _write(self, shard: str, epoch: int, operations: Sequence[Any]) -> None:
        names, arguments = [keys.of(shard, "epoch")], [keys.prefix(shard), epoch, *operations]
        answer = self._ask(self._step, keys=names, args=arguments)
        if answer != b"OK":
            raise Refused(f"Shard {shard} refused to let go under epoch {epoch}: {answer.decode()}.")


def _below(shard: str, key: str) -> str:
    return key.removeprefix(f"{keys.prefix(shard)}:")
