"""Effects: what a supervisor's decision does outside. Ordered in the outbox, begun once, told after they are done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class EffectKind(Enum):
    """What is done, and by whom."""

    START_ATTEMPT = "start"
    RUN_GATES = "gates"
    PUBLISH = "publish"
    TELL = "tell"
    ASK_SLOT = "ask_slot"
    RETURN_SLOT = "return_slot"
    NOTE_PR = "note_pr"
    STATUS = "status"
    WITHDRAW = "withdraw"

    __hash__ = object.__hash__  # by identity: members are single objects, and hashing names is slow


# Effects that a Celery worker carries out: (queue, task name). The others are done by the supervisor itself.
WAKES: dict[EffectKind, tuple[str, str]] = {
    EffectKind.START_ATTEMPT: ("agents", "agents.attempt"),
    EffectKind.RUN_GATES: ("gates", "gates.run"),
    EffectKind.PUBLISH: ("publish", "publish.pull_request"),
    EffectKind.STATUS: ("publish", "publish.status"),
    EffectKind.WITHDRAW: ("publish", "publish.withdraw"),
}

# Which role's hash in the ledger records the beginning.
BEGUN_BY: dict[EffectKind, str] = {
    EffectKind.START_ATTEMPT: "agents",
    EffectKind.RUN_GATES: "gates",
    EffectKind.PUBLISH: "publisher",
    EffectKind.STATUS: "publisher",
    EffectKind.WITHDRAW: "publisher",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """One order. ``round`` counts gate rounds of an attempt (or status versions), ``turn`` re-orders after a loss.

    ``data`` is small and specific to the kind: the encoded command for TELL, the tenant, repo and priority
    for ASK_SLOT. ``trace`` is a W3C traceparent.
    """

    kind: EffectKind
    ticket: str
    attempt: int
    round: int = 0
    turn: int = 0
    data: str = ""
    trace: str = ""

    @property
    def id(self) -> str:
        """Deterministic: the same order is the same effect, however often it is decided or delivered."""
        return f"{self.ticket}:{self.kind.value}:{self.attempt}:{self.round}:{self.turn}"
