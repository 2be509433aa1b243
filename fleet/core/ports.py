"""What the services need from outside, as narrow protocols. Synchronous: one blocking loop per process.

Adapters implement them in ``fleet.adapters``; the entry points wire the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.core.effects import Effect
from fleet.core.events import Envelope, Source
from fleet.core.gates import Approval, GatePlanRecord, GateRecord, VerdictRecord
from fleet.core.past import Past
from fleet.core.recovery import Taken
from fleet.core.view import TicketView


class Clock(Protocol):
    """Time. ``now`` is wall time in Unix seconds (may jump); ``monotonic`` never jumps and means nothing elsewhere."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    """Unpredictable names."""

    def hex(self, n: int) -> str:
        """``n`` hexadecimal digits."""
        ...

    def token(self, nbytes: int) -> str:
        """A URL-safe secret of ``nbytes`` random bytes."""
        ...


class Dice(Protocol):
    """Chance, for jitter."""

    def uniform(self) -> float:
        """A number in [0, 1)."""
        ...


class Ledger(Protocol):
    """What every role may read of the record, and its own inbound stream. See docs/ledger.md for the keys."""

    def view(self, ticket: str) -> TicketView | None: ...

    def views(self) -> Iterator[TicketView]: ...

    def log(self, ticket: str, after: str = "0", block_ms: int | None = None) -> Sequence[tuple[str, Envelope]]:
        """Entries after the cursor ``after``, oldest first, as (cursor, event)."""
        ...

    def send(self, source: Source, events: Sequence[Envelope], durable: bool = False) -> None:
        """Appends to the inbound streams. ``durable``: on disk (WAITAOF) before this returns.

        Raises TemporaryError when the store is away or cannot write: nothing is then promised.
        """
        ...

    def past(self, ticket: str) -> Past | None:
        """What is remembered of a ticket that ended so long ago that it has no view any more."""
        ...

    def outbox(self, effect_id: str, ticket: str) -> Effect | None:
        """The order with this id while it is wanted; None once it is done or was withdrawn."""
        ...

    def begin(self, role: str, effect: Effect, owner: str) -> bool:
        """Claims an effect, once and for ever, on disk before it returns.

        False: already begun by somebody else, withdrawn, or the ticket is cancelled (I3, I20). The same ``owner``
        asking again gets True again, so that an answer lost on the wire costs nothing.
        """
        ...

    def put_gate_plan(self, record: GatePlanRecord) -> None: ...

    def put_gate_record(self, record: GateRecord) -> None: ...

    def put_verdict(self, record: VerdictRecord) -> None: ...

    def gate_plan(self, ticket: str, attempt: int, head: str) -> GatePlanRecord | None: ...

    def gate_records(self, ticket: str, attempt: int, head: str) -> tuple[GateRecord, ...]: ...

    def verdict(self, ticket: str, attempt: int, round: int) -> VerdictRecord | None: ...

    def put_approval(self, record: Approval) -> None:
        """On disk when this returns. Only the role ``people`` may."""
        ...

    def approvals(self, ticket: str) -> tuple[Approval, ...]: ...

    def incarnation(self) -> str:
        """Random id of this ledger; attempts of another one are refused."""
        ...


class IntakeLedger(Ledger, Protocol):
    """What intake writes beside its stream."""

    def note_recovered(self, ticket: str, taken: Taken) -> None:
        """Once per ticket: the first word stands."""
        ...


class AttemptChannel(Protocol):
    """How an attempt speaks with the fleet: Redis on one machine, HTTP on a cluster."""

    def claim(self, ticket: str, attempt: int, owner: str) -> bool:
        """Single-use and never expiring: the attempt number is the fence."""
        ...

    def send(self, events: Sequence[Envelope]) -> None: ...

    def commands(self, ticket: str, attempt: int, after: str, block_ms: int) -> Sequence[tuple[str, bytes]]:
        """Encoded commands (fleet.core.commands) after the cursor."""
        ...

    def view(self, ticket: str) -> TicketView | None: ...


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt that runs on this host."""

    ticket: str
    attempt: int
    pid: int


class Launcher(Protocol):
    """Starts attempts and finds them again. Local processes now, Kubernetes Jobs later."""

    def start(self, ticket: str, attempt: int) -> LiveAttempt:
        """Starts the attempt, or re-attaches to it when it already runs (a doubled wake-up is harmless)."""
        ...

    def find(self, ticket: str, attempt: int) -> LiveAttempt | None: ...

    def live(self) -> tuple[LiveAttempt, ...]: ...

    def wait(self, attempt: LiveAttempt, timeout: float) -> bool:
        """True when the attempt is over, False when ``timeout`` seconds passed first."""
        ...

    def kill(self, attempt: LiveAttempt) -> bool:
        """Kills the whole tree; True when it was seen dead."""
        ...


class Artifacts(Protocol):
    """Big things by deterministic name: bundles, logs, evidence. ``name`` is a relative POSIX path."""

    def put(self, name: str, data: bytes) -> str:
        """Atomic; returns the reference. Putting the same name again replaces it."""
        ...

    def put_file(self, name: str, path: Path) -> str: ...

    def get(self, name: str) -> bytes | None: ...

    def path(self, name: str) -> Path | None:
        """A local file with the content, or None when there is none."""
        ...


class Waker(Protocol):
    """Carries wake-ups. May lose, double or reorder them without harm."""

    def wake(self, effect: Effect) -> None: ...
