"""Hypothesis strategies for the core's data."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from fleet.core.events import KINDS, Envelope, EventData, Heartbeat, Source

ALL_KINDS: tuple[type, ...] = get_args(EventData)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=64)

st.register_type_strategy(str, _TEXT)
st.register_type_strategy(float, _NUMBER)
st.register_type_strategy(int, st.integers(-(2**63), 2**64 - 1))


def data(*kinds: type) -> st.SearchStrategy[Any]:
    """Event data of these kinds, every field drawn by its type."""
    return st.one_of([st.from_type(kind) for kind in kinds])


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """An event as a source that may say it would say it."""
    source = draw(st.sampled_from(Source))
    kind = draw(st.sampled_from(sorted(KINDS[source], key=lambda one: one.__name__)))
    seq = 0 if source is not Source.ATTEMPTS or kind is Heartbeat else draw(st.integers(1, 2**32))
    return Envelope(
        draw(_TEXT), draw(_TEXT), draw(st.integers(0, 2**31)), seq, draw(_NUMBER), draw(data(kind)), source, draw(_TEXT)
    )
