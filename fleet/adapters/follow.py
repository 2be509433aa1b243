"""Reads every ticket's log as it grows, by looking when asked: while nobody looks, it costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from fleet.adapters import keys
from fleet.adapters.redis_client import Asking, FleetRedis
from fleet.adapters.segments import Segments
from fleet.core.archive import DamagedSegment, Row
from fleet.core.codec import CodecError, decode, decode_event
from fleet.core.events import Envelope
from fleet.core.outbox import Outstanding
from fleet.core.ports import Artifacts
from fleet.core.ticket import all_shards, shard_of

_TOGETHER = 50
_MOST = 500


class Follower(Asking):
    """``client``: of any role; it only reads. ``artifacts``: where sealed parts of logs lie.

    Raises TemporaryError while the store is away.
    """

    def __init__(self, client: FleetRedis, artifacts: Artifacts | None = None) -> None:
        self._redis = client
        self._segments = Segments(None if artifacts is None else lambda: artifacts)
        self._versions: dict[str, bytes] = {}
        self._cursors: dict[str, str] = {}

    def incarnation(self) -> str:
        """Empty for a ledger that nobody has opened yet."""
        raw = self._ask(self._redis.hget, keys.META, "incarnation")
        return raw.decode() if raw else ""

    def news(self) -> Iterator[Envelope]:
        """Every event since the last call, once; a ticket's in their order. An unreadable one is left out."""
        grown = self._grown()
        names = list(grown)
        for first in range(0, len(names), _TOGETHER):
            waiting = names[first : first + _TOGETHER]
            while waiting:
                found = self._logs(waiting)
                for name in waiting:
                    for cursor, raw in found[name]:
                        self._cursors[name] = cursor
                        try:
                            event = decode_event(raw)
                        except CodecError:
                            continue
                        yield event
                waiting = [name for name in waiting if len(found[name]) >= _MOST]
        self._versions.update(grown)

    def forget(self) -> None:
        """From the beginning again: this is another ledger."""
        self._versions.clear()
        self._cursors.clear()

    def log(self, ticket: str) -> Sequence[Envelope]:
        """The whole log of one ticket, without unreadable events."""
        events = []
        pipe = self._redis.pipeline(transaction=False)
        pipe.xrange(keys.log(ticket))
        pipe.hget(keys.of(shard_of(ticket), "sealed"), ticket)
        found, sealed = self._ask(pipe.execute)
        for _, raw in self._joined([(cursor.decode(), fields[b"e"]) for cursor, fields in found], sealed, "0"):
            with suppress(CodecError):
                events.append(decode_event(raw))
        return events

    def _logs(self, tickets: Sequence[str]) -> dict[str, Sequence[Row]]:
        """What is new of each of them, sealed or not. The streams are read first, so that nothing falls in between."""
        cursors = {name: self._cursors.get(name, "0") for name in tickets}
        pipe = self._redis.pipeline(transaction=False)
        pipe.xread({keys.log(name): cursor for name, cursor in cursors.items()}, count=_MOST)
        for name in tickets:
            pipe.hget(keys.of(shard_of(name), "sealed"), name)
        found, *sealed = self._ask(pipe.execute)
        streams = dict(_streams(found))
        return {
            name: self._joined(streams.get(keys.log(name), []), raw, cursors[name])
            for name, raw in zip(tickets, sealed, strict=True)
        }

    def _joined(self, stream: Sequence[Row], sealed: bytes | None, after: str) -> Sequence[Row]:
        try:
            return self._segments.joined(stream, sealed, after)
        except DamagedSegment:
            return stream

    def outbox(self) -> Sequence[Outstanding]:
        """The orders that stand, of all shards."""
        pipe = self._redis.pipeline(transaction=False)
        for shard in all_shards():
            pipe.hvals(keys.of(shard, "outbox"))
        return [decode(raw, Outstanding) for rows in self._ask(pipe.execute) for raw in rows]

    def quarantined(self) -> int:
        """How many refused entries are kept."""
        pipe = self._redis.pipeline(transaction=False)
        for shard in all_shards():
            pipe.xlen(keys.of(shard, "quarantine"))
        return int(sum(self._ask(pipe.execute)))

    def _grown(self) -> dict[str, bytes]:
        """Tickets whose view has another version than at the last look, with that version."""
        pipe = self._redis.pipeline(transaction=False)
        for shard in all_shards():
            pipe.hgetall(keys.of(shard, "ver"))
        known = {name.decode(): version for versions in self._ask(pipe.execute) for name, version in versions.items()}
        for name in self._versions.keys() - known.keys():
            del self._versions[name]
            self._cursors.pop(name, None)
        return {name: version for name, version in known.items() if self._versions.get(name) != version}


def _streams(found: Any) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """(key, entries) of an XREAD answer, whichever protocol version wrote it."""
    for name, entries in found.items() if isinstance(found, dict) else found or ():
        yield name.decode(), [(cursor.decode(), fields[b"e"]) for cursor, fields in entries]
