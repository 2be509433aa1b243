"""What an attempt is told. Each command is idempotent by ``id``; the guard answers with CommandSeen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CommandKind(Enum):
    NUDGE = "nudge"
    STEER = "steer"
    INTERRUPT = "interrupt"
    CHECKPOINT = "checkpoint"
    CANCEL = "cancel"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Command:
    """``text`` for nudge and steer; ``seq`` for RESEND: send every event again from this number on."""

    id: str
    kind: CommandKind
    text: str = ""
    seq: int = 0
