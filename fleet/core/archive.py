"""What leaves the ledger: sealed segments of a log. Pure.

A log is numbered from 1, and its view's version is the number of its last event. A segment holds a range of them under
a name that follows from its content, so that storing it twice is storing it once, and whoever stores an outdated one
replaces nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from fleet.core.codec import CodecError
from fleet.core.past import Past

FOLDER = "logs"
# (cursor, event): a position in the ledger's stream and the event's bytes as they were written.
Row = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Segment:
    """``name``: in the artifact store. ``first`` and ``last``: numbers of its events; ``cursor``: that of the last one.

    ``digest``: SHA-256 of its lines, before they are compressed.
    """

    name: str
    first: int
    last: int
    cursor: str
    digest: str


class _Line(msgspec.Struct):
    cursor: str
    event: msgspec.Raw


class _Kind(msgspec.Struct):
    cursor: str = ""
    kind: str = ""


_line = msgspec.json.Decoder(_Line)
_kind = msgspec.json.Decoder(_Kind)
_encoder = msgspec.json.Encoder()


class DamagedSegment(CodecError):
    """A segment is not there, or is not what the ledger says it is."""


def pack(rows: Iterable[Row]) -> tuple[bytes, str]:
    """(compressed, digest); the same rows always give the same digest."""
    lines = b"".join(_encoder.encode(_Line(cursor, msgspec.Raw(raw))) + b"\n" for cursor, raw in rows)
    return gzip.compress(lines, 6, mtime=0), hashlib.sha256(lines).hexdigest()


def segment_name(incarnation: str, ticket: str, first: int, last: int, digest: str) -> str:
    """Ledgers of different incarnations may know the same ticket, and each has a log of its own."""
    return f"{FOLDER}/{incarnation}/{ticket}/{first:08d}-{last:08d}-{digest[:12]}.jsonl.gz"


def unpack(segment: Segment, data: bytes | None) -> list[Row]:
    """The rows of a segment. Raises DamagedSegment unless they are exactly those that were sealed."""
    if data is None:
        raise DamagedSegment(f"Events {segment.first}–{segment.last} are gone: {segment.name} is not there.")
    try:
        lines = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedSegment(f"{segment.name} cannot be read: {error}.") from error
    if hashlib.sha256(lines).hexdigest() != segment.digest:
        raise DamagedSegment(f"{segment.name} has another digest than the ledger says.")
    return log_lines(lines)


def log_lines(data: bytes) -> list[Row]:
    """The rows of a log file: a segment's lines or bare events, compressed or not. Raises CodecError."""
    try:
        lines = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise CodecError(f"Not a log: {error}.") from error
    rows: list[Row] = []
    for number, raw in enumerate(lines.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            bare = bool(_kind.decode(raw).kind)
            line = _Line(f"{number}-0", msgspec.Raw(raw)) if bare else _line.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CodecError(f"Line {number} is not an event: {error}") from error
        rows.append((line.cursor, bytes(line.event)))
    return rows


def position(cursor: str) -> tuple[int, int]:
    """A stream's cursor as something that can be compared: ``1700000000000-3``."""
    at, _, number = cursor.partition("-")
    return int(at), int(number or 0)


def following(cursor: str) -> str:
    """The first position after ``cursor``."""
    at, number = position(cursor)
    return f"{at}-{number + 1}"


def sealed_upto(segments: Sequence[Segment]) -> tuple[int, str]:
    """(number, cursor) of the last sealed event; (0, "0") when none is."""
    return (segments[-1].last, segments[-1].cursor) if segments else (0, "0")


class Archive(Protocol):
    """The ledger as the archivist needs it. Every method raises TemporaryError while the store is away."""

    def sealed(self, shard: str) -> Mapping[str, tuple[Segment, ...]]:
        """What is sealed of each ticket of the shard."""
        ...

    def past(self, shard: str) -> set[str]:
        """Tickets of the shard that were forgotten."""
        ...

    def rows(self, ticket: str, after: str, most: int) -> list[Row]:
        """The ticket's stream after the cursor, oldest first."""
        ...

    def seal(self, shard: str, epoch: int, ticket: str, segments: Sequence[Segment], gone: Sequence[str] = ()) -> None:
        """Notes what is sealed and takes it out of the stream, in one step; the keys ``gone`` go, too.

        Raises Refused when the shard is no longer ours; nothing is changed then.
        """
        ...

    def forget(self, shard: str, epoch: int, tickets: Mapping[str, tuple[int, Past]]) -> None:
        """Takes everything of these tickets out but their ``Past``, in one step.

        Raises Refused when the shard is no longer ours or a ticket has another version; nothing is changed then.
        """
        ...
