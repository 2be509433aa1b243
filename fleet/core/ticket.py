"""A ticket: an issue that somebody with write access asked the fleet to work on, frozen at acceptance."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field

DEFAULT_TENANT = "default"
SHARDS = 16
TICKET_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class Criterion:
    """One acceptance criterion of the issue: ``text`` as written, ``done`` when its box was already ticked."""

    text: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class TicketLimits:
    """Hard limits of one ticket. Money in US dollars, time in seconds.

    ``tokens``: of every kind, also read from a cache. ``unknown_prices``: whether a model without a known price may run
    under the caps on tokens and calls alone; naming ``usd`` turns it off unless it is named, too.
    """

    usd: float = 2.0
    model_calls: int = 100
    tokens: int = 5_000_000
    unknown_prices: bool = True
    attempt_seconds: float = 1800.0
    attempts: int = 3
    gate_rounds: int = 3


@dataclass(frozen=True, slots=True)
class Ticket:
    """What was accepted. Nothing here changes later; what happens is in the log.

    ``repo`` is the forge's full name (owner/name); ``number`` the issue's. ``generation`` counts how often this
    issue became a ticket. ``branch`` is chosen once, here. ``agent`` is e.g. ``command:ruff check --fix .``.
    ``local_path`` is the person's own checkout for ``fleet run --repo PATH``: it receives the result as a new ref.
    ``allow_no_tests``: a run in which no test ran may still open a draft headed NO TESTS RAN (``fleet run`` only).
    ``label`` is the one that started it and ``trigger`` the forge's id of the act of putting it on; both are empty for
    a ticket of the command line. ``hidden`` characters and ``comments`` were taken out of the text at acceptance.
    ``route``: who takes over, in this order, when ``agent`` is at its end.
    """

    id: str
    tenant: str
    repo: str
    number: int
    generation: int
    title: str
    body: str
    text_hash: str
    base: str
    branch: str
    agent: str
    requested_by: str
    accepted_at: float
    criteria: tuple[Criterion, ...] = ()
    limits: TicketLimits = field(default_factory=TicketLimits)
    local_path: str = ""
    allow_no_tests: bool = False
    priority: int = 0
    label: str = ""
    trigger: str = ""
    hidden: int = 0
    comments: int = 0
    route: tuple[str, ...] = ()

    @property
    def issue(self) -> str:
        return f"{self.repo}#{self.number}"


def ticket_id(tenant: str, repo: str, number: int, generation: int) -> str:
    """Deterministic, so that the same issue and generation is the same ticket however often it is delivered (I2).

    Readable first (``tabulate-1-4f9c2a``), unique by eight hex digits of SHA-256 over all four parts.
    """
    digest = hashlib.sha256("\0".join((tenant, repo, str(number), str(generation))).encode()).hexdigest()[:8]
    name = slug(repo.rsplit("/", 1)[-1], 30) or "repo"
    return f"{name}-{number}-{digest}"


@functools.lru_cache(65536)
def shard_of(ticket: str) -> str:
    """The shard's name (``s00`` … ``s15``), a hash of the id; fixed for an installation."""
    return f"s{int.from_bytes(hashlib.sha256(ticket.encode()).digest()[:4], 'big') % SHARDS:02d}"


def all_shards() -> tuple[str, ...]:
    return tuple(f"s{n:02d}" for n in range(SHARDS))


def slug(text: str, length: int = 40) -> str:
    """Lower-case ASCII letters, digits and single hyphens: safe in a branch, a key and a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words[:length].rstrip("-")


def branch_name(number: int, generation: int, title: str) -> str:
    """``fleet/<number>-<slug>``; from generation 2 on ``fleet/<number>.<generation>-<slug>``."""
    prefix = f"{number}" if generation == 1 else f"{number}.{generation}"
    return f"fleet/{prefix}-{slug(title) or 'change'}"


def text_hash(title: str, body: str) -> str:
    """SHA-256 over the frozen text: an edit after acceptance changes nothing unnoticed."""
    return hashlib.sha256(f"{title}\0{body}".encode()).hexdigest()
