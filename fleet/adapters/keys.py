"""Names of the ledger's keys. ``{s07}`` is the hash tag of everything of a shard, ``{adm}`` of admission.

docs/ledger.md explains each; ``fleet.adapters.acl`` says who may write it.
"""

from __future__ import annotations

import functools

from fleet.core.events import Source
from fleet.core.ticket import shard_of

ADMISSION = "adm"
META = "fleet:meta"
MEMBERS = "fleet:members"
HOLD = "fleet:hold"
RECOVERED = "fleet:recovered"

# The streams that a shard's owner reads, in no particular order among each other.
INBOUND = (Source.INTAKE, Source.PEOPLE, Source.ADMISSION, Source.ATTEMPTS, Source.GATES, Source.PUBLISHER)


def prefix(shard: str) -> str:
    return f"fleet:{{{shard}}}"


@functools.lru_cache(4096)
def of(shard: str, *parts: str) -> str:
    """``of("s07", "log", "tabulate-1-4f9c2a")`` is ``fleet:{s07}:log:tabulate-1-4f9c2a``."""
    return ":".join((prefix(shard), *parts))


def inbound(ticket: str, source: Source) -> str:
    return of(shard_of(ticket), "in", source.value)


def log(ticket: str) -> str:
    return of(shard_of(ticket), "log", ticket)


def gates(ticket: str) -> str:
    return of(shard_of(ticket), "gates", ticket)


def approvals(ticket: str) -> str:
    return of(shard_of(ticket), "approvals", ticket)


def tell(ticket: str, attempt: int) -> str:
    return of(shard_of(ticket), "tell", ticket, str(attempt))


def spent(ticket: str) -> str:
    """What models cost a ticket: the gateway's (``fleet.adapters.spend``)."""
    return of("spend", "ticket", ticket)
