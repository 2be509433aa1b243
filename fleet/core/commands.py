"""What an attempt is told. Each command is idempotent by ``id``; the guard answers with CommandSeen, to PROBE also with
SignGiven.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CommandKind(Enum):
    PROBE = "probe"
    NUDGE = "nudge"
    STEER = "steer"
    INTERRUPT = "interrupt"
    CHECKPOINT = "checkpoint"
    CANCEL = "cancel"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Command:
    """``text`` for nudge, steer and interrupt, and why for CHECKPOINT.

    ``seq`` for RESEND: send every event again from this number on.
    """

    id: str
    kind: CommandKind
    text: str = ""
    seq: int = 0
