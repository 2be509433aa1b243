"""Failures by class, each with one fixed policy (supervisor/retries.py). Backoff: 30 s × 2 to 15 min."""

from __future__ import annotations

import hashlib
import re
from enum import Enum

from fleet.core.states import Reason, State

BACKOFF_FIRST_S = 30.0
BACKOFF_MOST_S = 900.0
LOST_AFTER_S = 30.0
POISON_AFTER = 3
# A server that asks for more than this is asked again all the same.
RETRY_AFTER_MOST_S = 6 * 3600.0
_NUMBERS = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")


class FailureClass(Enum):
    """What went wrong, by what the supervisor must do about it.

    ``NEEDS_INPUT``: the agent asks a person.
    ``TRANSIENT``: something outside is away, and will be back. ``CRASHED``: the attempt broke or was killed.
    """

    TRANSIENT = "transient"
    CRASHED = "crashed"
    PROVIDER_LIMIT = "provider_limit"
    AGENT_ERROR = "agent_error"
    COMMAND_FAILED = "command_failed"
    NOTHING_CHANGED = "nothing_changed"
    PROTOCOL = "protocol"
    CONFIG = "config"
    NO_SANDBOX = "no_sandbox"
    BUDGET = "budget"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"
    NEEDS_INPUT = "needs_input"


def backoff(
    failures: int,
    jitter: float,
    retry_after: float | None = None,
    first: float = BACKOFF_FIRST_S,
    most: float = BACKOFF_MOST_S,
) -> float:
    """Seconds to wait after the ``failures``-th failure in a row (≥ 1). ``jitter`` in [0, 1) spreads a herd.

    Full jitter over the upper half keeps a floor, so that an unlucky draw of 0 does not hammer; a server's own
    ``retry_after`` is never undercut.
    """
    ceiling = min(most, first * 2.0 ** min(max(failures, 1) - 1, 10))
    wait = ceiling * (0.5 + 0.5 * jitter)
    return max(wait, min(retry_after or 0.0, RETRY_AFTER_MOST_S))


def death(cause: str, detail: str) -> str:
    """The name under which deaths of one kind are counted. Errors of an agent are as many kinds as they say things."""
    if cause != Reason.AGENT_ERROR.value:
        return cause
    said = _NUMBERS.sub("#", detail.lower())
    return f"{cause}:{hashlib.sha256(said.encode()).hexdigest()[:10]}"


def repeated(state: State, reason: Reason) -> str:
    """The name under which repetitions of ``state`` itself are counted, apart from attempts that ended so."""
    return f"{state.value}:{reason.value}"
