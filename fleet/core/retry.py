"""Failures by class, each with one fixed policy (DESIGN: supervision). Backoff: 30 s × 2 up to 15 min, full jitter."""

from __future__ import annotations

from enum import Enum

BACKOFF_FIRST_S = 30.0
BACKOFF_MOST_S = 900.0
LOST_AFTER_S = 30.0
POISON_AFTER = 3


class FailureClass(Enum):
    """What went wrong, by what the supervisor must do about it."""

    TRANSIENT = "transient"
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
    return max(wait, retry_after or 0.0)
