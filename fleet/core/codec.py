"""Frozen data to JSON bytes and back, typed and strict. msgspec does the work.

An event is written as ``{"v","kind","tenant","ticket","attempt","seq","at","source","trace","data"}``.
"""

from __future__ import annotations

from typing import Any, TypeVar, get_args

import msgspec

from fleet.core.errors import FleetError
from fleet.core.events import KINDS, VERSION, Envelope, EventData, Source

T = TypeVar("T")

_BY_NAME: dict[str, type] = {kind.__name__: kind for kind in get_args(EventData)}
_encoder = msgspec.json.Encoder()


class CodecError(FleetError):
    """The bytes are not what they should be. The caller quarantines them; it never drops them."""


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    v: int
    kind: str
    tenant: str
    ticket: str
    attempt: int
    seq: int
    at: float
    source: Source
    trace: str
    data: msgspec.Raw


_wire = msgspec.json.Decoder(_Wire)
_data: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in _BY_NAME.items()}
_typed: dict[type, msgspec.json.Decoder[Any]] = {}


def encode(value: object) -> bytes:
    """Any frozen dataclass of the core (enums by value) as JSON."""
    return _encoder.encode(value)


def decode(raw: bytes, kind: type[T]) -> T:
    """Raises CodecError when ``raw`` is not a ``kind``."""
    decoder = _typed.get(kind)
    if decoder is None:
        decoder = _typed[kind] = msgspec.json.Decoder(kind)
    try:
        value: T = decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise CodecError(f"Not a {kind.__name__}: {error}") from error
    return value


def encode_event(event: Envelope) -> bytes:
    wire = _Wire(
        event.v,
        event.kind,
        event.tenant,
        event.ticket,
        event.attempt,
        event.seq,
        event.at,
        event.source,
        event.trace,
        msgspec.Raw(_encoder.encode(event.data)),
    )
    return _encoder.encode(wire)


def decode_event(raw: bytes, source: Source | None = None) -> Envelope:
    """Raises CodecError for another version, an unknown kind, or a kind that ``source`` may not say.

    ``source`` is the stream that the bytes came from; None trusts the envelope's own word (reading a log).
    """
    try:
        wire = _wire.decode(raw)
        if wire.v != VERSION:
            raise CodecError(f"Event version {wire.v} is not {VERSION}.")
        if wire.kind not in _data:
            raise CodecError(f"Unknown event kind {wire.kind[:60]!r}.")
        data = _data[wire.kind].decode(wire.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"Not an event: {error}") from error
    if source is not None and (wire.source is not source or type(data) not in KINDS[source]):
        raise CodecError(f"{wire.kind} may not come from {source.value}.")
    return Envelope(
        wire.tenant, wire.ticket, wire.attempt, wire.seq, wire.at, data, source or wire.source, wire.trace, wire.v
    )
