"""What the kernel says about an attempt's processes: the guard's answer to a probe, and its last look."""

from __future__ import annotations

from fleet.adapters.sandbox import procfs
from fleet.core.events import SignGiven

_STATES = {"R": "running", "S": "waiting", "D": "waiting", "I": "waiting", "T": "stopped", "t": "stopped"}


def sign(guard: int, loop: int, quiet_seconds: float) -> SignGiven:
    """What lives below the guard, and in which state the loop is."""
    rows = procfs.descendants(guard)
    states = [row.state for row in rows if row.pid == loop]
    state = _STATES.get(states[0], "waiting") if states else "gone"
    return SignGiven(state, len(rows), round(sum(row.cpu for row in rows), 2), round(quiet_seconds, 1))


def below(guard: int) -> int:
    """How many processes still live below the guard."""
    return len(procfs.descendants(guard))
