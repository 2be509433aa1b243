"""The atomic step of a shard's owner, and the store as the supervisor needs it: leases, inbound streams, steps.

Every write carries the shard's epoch, so an owner that was frozen and replaced meanwhile is refused (``Refused``) and
drops the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fleet.core.effects import Effect
from fleet.core.errors import ConflictError
from fleet.core.events import Envelope, Source
from fleet.core.outbox import Outstanding
from fleet.core.view import Hold, TicketView


class Refused(ConflictError):
    """The epoch or a version is not what this owner believed: it no longer owns the shard."""


@dataclass(slots=True)
class Batch:
    """All that one step writes for one shard. Filled by ``supervisor.shard``, written by ``Shards.steps``.

    ``unbegun``: starts of attempts that nobody may have claimed; when one was, nothing of the batch is written.
    ``history``: the store's history that the shard now belongs to; empty leaves it as it is.
    """

    views: dict[str, tuple[int, TicketView]] = field(default_factory=dict)
    log: list[Envelope] = field(default_factory=list)
    orders: list[Outstanding] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    unbegun: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    cursors: dict[Source, str] = field(default_factory=dict)
    quarantined: list[bytes] = field(default_factory=list)
    history: str = ""

    @property
    def empty(self) -> bool:
        """Whether only cursors moved: nothing would be lost by writing later."""
        told = self.views or self.log or self.orders or self.withdrawn or self.cancelled or self.quarantined
        return not (told or self.history)


# A shard's name, the epoch under which it is ours, and what to write.
Step = tuple[str, int, Batch]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A shard as its new owner finds it. ``history``: the one in which it was owned last; empty when it never was."""

    views: Mapping[str, bytes]
    outbox: Mapping[str, bytes]
    cursors: Mapping[Source, str]
    history: str = ""


class Shards(Protocol):
    """The ledger as the supervisor writes it. Every method raises TemporaryError while the store is away.

    ``incarnation``: the ledger's name; a ticket's trace follows from it.
    """

    incarnation: str

    def announce(self) -> int:
        """Says that this supervisor lives; answers how many do."""
        ...

    def leave(self, shards: Iterable[str]) -> None: ...

    def lease(self, shard: str) -> tuple[int, bool]:
        """(epoch, newly taken); epoch 0 means that somebody else owns the shard."""
        ...

    def renew(self, shards: Sequence[str]) -> dict[str, int]:
        """The epoch per shard, 0 where the lease was lost."""
        ...

    def release(self, shard: str) -> None: ...

    def history(self) -> str:
        """The name of the store's history. Another one: a replica was promoted or the server began anew, and what it
        was told last may be lost.
        """
        ...

    def held(self) -> Hold | None:
        """Who paused the whole fleet; None while it works."""
        ...

    def load(self, shard: str) -> Loaded: ...

    def read(
        self, cursors: Mapping[tuple[str, Source], str], admission: str | None, block_ms: int
    ) -> tuple[dict[tuple[str, Source], list[tuple[str, bytes]]], list[tuple[str, bytes]]]:
        """New entries after the cursors, per shard and source, and those of admission when its cursor is given.

        ``block_ms``: how long to wait for the first of them; 0 does not wait.
        """
        ...

    def step(self, shard: str, epoch: int, batch: Batch) -> None:
        """All of the batch or nothing. Raises Refused when the shard is no longer ours."""
        ...

    def steps(self, steps: Sequence[Step]) -> frozenset[str]:
        """Each all or nothing by itself. Raises Refused for the first that is no longer ours.

        Answers which of the batches' ``unbegun`` somebody had begun: those batches were not written.
        """
        ...

    def begun(self, effects: Sequence[Effect]) -> list[bool]:
        """Whether somebody has begun each effect."""
        ...

    def tell(self, effect: Effect) -> None:
        """Puts the effect's command into its attempt's mailbox."""
        ...

    def ask_admission(self, raws: Sequence[bytes]) -> None: ...

    def grant(self, events: Sequence[Envelope]) -> None: ...

    def load_admission(self) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, str], str]:
        """Waiting requests, grants, open pull requests (ticket → repo), cursor."""
        ...

    def step_admission(self, epoch: int, operations: Sequence[str | bytes]) -> None:
        """Raises Refused when admission is no longer ours. ``lua/admission.lua`` lists the operations."""
        ...
