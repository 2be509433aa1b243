"""Events to bytes and back; whatever is not exactly an event is a CodecError, never another exception."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.core.codec import CodecError, decode, decode_event, encode, encode_event
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import KINDS, Envelope, Heartbeat, Note, Source
from fleet.core.view import TicketView
from tests.support.kinds import ALL_KINDS, data, envelopes

NOTE = Envelope("default", "demo-1-00000000", 1, 1, 1.0, Note("hello"), Source.ATTEMPTS)


def changed(**changes: Any) -> bytes:
    """The note as JSON with some fields replaced; ``...`` removes one."""
    fields = {**json.loads(encode_event(NOTE)), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@pytest.mark.parametrize("kind", ALL_KINDS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=st.data())
def test_every_kind_comes_back_as_it_was(kind: type, drawn: st.DataObject) -> None:
    (source, *_) = [source for source, kinds in KINDS.items() if kind in kinds]
    event = Envelope("default", "t", 1, 0, 1.5, drawn.draw(data(kind)), source, "00-trace")
    assert decode_event(encode_event(event), source) == event


@pytest.mark.invariant("I5")
@given(envelopes(), st.sampled_from(Source))
def test_a_kind_is_believed_from_its_own_source_only(event: Envelope, stream: Source) -> None:
    raw = encode_event(event)
    if stream is event.source:
        assert decode_event(raw, stream) == event
        return
    with pytest.raises(CodecError, match="may not come from"):
        decode_event(raw, stream)
    lying = dataclasses.replace(event, source=stream)
    if type(event.data) not in KINDS[stream]:
        with pytest.raises(CodecError, match="may not come from"):
            decode_event(encode_event(lying), stream)


def test_every_kind_has_a_source_and_only_heartbeats_and_cancels_have_several() -> None:
    speakers = {kind: [source for source in Source if kind in KINDS[source]] for kind in ALL_KINDS}
    assert all(speakers.values())
    assert {kind.__name__ for kind, sources in speakers.items() if len(sources) > 1} == {"Heartbeat", "CancelRequested"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (changed(v=2), "version 2"),
        (changed(v=0), "version 0"),
        (changed(kind="Forged"), "Unknown event kind 'Forged'"),
        (changed(kind="x" * 10_000), "Unknown event kind"),
        (changed(more=1), "unknown field"),
        (changed(seq=...), "missing required field"),
        (changed(seq="1"), "Expected `int`"),
        (changed(source="nobody"), "Invalid enum value"),
        (changed(data={"text": 1}), "Expected `str`"),
        (changed(data={}), "missing required field"),
        (changed(data=[]), "Expected `object`"),
        (changed(at=None), "Expected `float`"),
        (changed(at=float("nan")), "Not an event"),
        (changed(at=float("inf")), "Not an event"),
        (changed().replace(b"1.0", b"1e999"), "Not an event"),
        (changed(ticket="\ud800"), "Not an event"),
        (changed(data={"text": "\ud800"}), "Not an event"),
        (b"", "Not an event"),
        (b"null", "Not an event"),
        (b"\xff\xfe", "Not an event"),
        (b"[" * 100_000, "Not an event"),
        (b'{"v":' * 100_000, "Not an event"),
        (changed(data=...)[:-1] + b',"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "Not an event"),
        (encode_event(NOTE)[:-1], "Not an event"),
        (encode_event(NOTE) * 2, "Not an event"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:20],
)
def test_what_is_no_event_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode_event(raw, Source.ATTEMPTS)
    assert said.lower() in str(caught.value).lower()


def test_unknown_fields_of_data_never_reach_a_view() -> None:
    try:
        event = decode_event(changed(data={"text": "a", "state": "merged"}), Source.ATTEMPTS)
    except CodecError:
        return
    assert event.data == Note("a")


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, 2**70, 10**60, -(2**70)])
def test_what_can_be_read_can_be_written_again(number: int) -> None:
    """The supervisor writes every event that it folds: one that it could read but not write would stop it."""
    raw = changed(kind="Heartbeat", data=...)[:-1] + b',"data":{"last_seq":%d}}' % number
    try:
        event = decode_event(raw, Source.ATTEMPTS)
    except CodecError:
        return
    assert event.data == Heartbeat(number)
    assert decode_event(encode_event(event)) == event


@given(st.binary(max_size=200))
def test_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(CodecError):
        decode_event(raw)


@settings(max_examples=300)
@given(st.integers(0, 400), st.integers(0, 255))
def test_one_damaged_byte_is_refused_or_is_another_event(place: int, byte: int) -> None:
    raw = bytearray(encode_event(NOTE))
    raw[place % len(raw)] = byte
    try:
        assert isinstance(decode_event(bytes(raw), Source.ATTEMPTS).data, tuple(KINDS[Source.ATTEMPTS]))
    except CodecError:
        return


def test_other_data_comes_back_too_and_wrong_data_is_refused() -> None:
    effect = Effect(EffectKind.PUBLISH, "t", 1, 2, 3, "data", "trace")
    assert decode(encode(effect), Effect) == effect
    for raw in (b"{}", b"1", b"", encode(NOTE.data)):
        with pytest.raises(CodecError, match="Not a TicketView"):
            decode(raw, TicketView)
