"""One trace per ticket, with names that follow from the ticket: a restart continues it, and sending twice is harmless.

The ids are digests (W3C Trace Context: 16 and 8 bytes), so that nobody has to hand a context along to be in the trace.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

ROOT = "ticket"
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment inside a span. ``at``: Unix seconds."""

    name: str
    at: float
    attributes: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class SpanData:
    """A finished span. Ids in lower-case hex, ``parent`` empty for the root; ``start`` and ``end`` in Unix seconds.

    ``error``: why it failed, in one word; empty when it did not. ``client``: it waited for somebody else's server.
    """

    name: str
    trace: str
    span: str
    parent: str
    start: float
    end: float
    attributes: tuple[tuple[str, Value], ...] = ()
    marks: tuple[Mark, ...] = ()
    error: str = ""
    client: bool = False


def trace_id(incarnation: str, ticket: str) -> str:
    """32 hex digits. A generation is a ticket of its own, so it has a trace of its own."""
    return hashlib.sha256(f"{incarnation}\0{ticket}".encode()).hexdigest()[:32]


def span_id(trace: str, name: str) -> str:
    """16 hex digits. ``name``: what tells the span from all others of its trace."""
    return hashlib.sha256(f"{trace}\0{name}".encode()).hexdigest()[:16]


@functools.lru_cache(4096)
def traceparent(incarnation: str, ticket: str) -> str:
    """The W3C header of the ticket's root span, sampled."""
    trace = trace_id(incarnation, ticket)
    return f"00-{trace}-{span_id(trace, ROOT)}-01"
