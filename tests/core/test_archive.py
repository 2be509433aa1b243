"""Segments hold exactly what was sealed, or say that they do not."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest

from fleet.core.archive import DamagedSegment, Segment, log_lines, pack, segment_name, unpack

ROWS = [(f"17-{n}", b'{"kind":"Note","data":{"text":"%d"}}' % n) for n in range(1, 6)]


def sealed() -> tuple[Segment, bytes]:
    data, digest = pack(ROWS)
    return Segment(segment_name("abc", "demo-1-00", 1, 5, digest), 1, 5, "17-5", digest), data


def test_what_was_packed_is_unpacked_and_its_name_follows_from_it() -> None:
    segment, data = sealed()
    assert unpack(segment, data) == ROWS == log_lines(data)
    assert segment.name == f"logs/abc/demo-1-00/00000001-00000005-{segment.digest[:12]}.jsonl.gz"
    assert pack(ROWS) == pack(iter(ROWS))
    assert pack(ROWS[:4])[1] != segment.digest


@pytest.mark.parametrize("damage", ["gone", "cut", "other", "noise"])
def test_a_segment_that_is_not_what_was_sealed_is_refused(damage: str) -> None:
    segment, data = sealed()
    found = {"gone": None, "cut": data[:-9], "other": gzip.compress(b"{}\n"), "noise": b"x" * 40}[damage]
    with pytest.raises(DamagedSegment, match=r"1–5 are gone|cannot be read|another digest"):
        unpack(segment, found)
    with pytest.raises(DamagedSegment):
        unpack(replace(segment, digest="0" * 64), data)
