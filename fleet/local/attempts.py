"""The live attempts of a home, when their machine goes: each is asked once to hand its work back, and ends by itself.

A guard that is asked keeps what its agent had done, says that it hands back, and is gone within seconds; the ticket
goes on with the next attempt, and nothing is counted.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress

from fleet.adapters.launcher import LocalLauncher
from fleet.adapters.layout import Layout
from fleet.core.ports import Clock, LiveAttempt

_NUMBER = re.compile(r"[0-9]{1,9}")


class LiveAttempts:
    """Implements ``fleet.local.host.Attempts``."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self._launcher = LocalLauncher(layout, clock)
        self._asked: set[LiveAttempt] = set()

    def live(self) -> tuple[LiveAttempt, ...]:
        return self._launcher.live()

    def hand_back(self) -> bool:
        """Asks whoever was not asked yet. False: none lives any more."""
        live = self._launcher.live()
        for one in live:
            if one not in self._asked:
                self._asked.add(one)
                _signal(one, signal.SIGTERM)
        return bool(live)

    def kill(self) -> None:
        """What the kernel ends leaves nothing behind but a lost attempt."""
        for one in self._launcher.live():
            _signal(one, signal.SIGKILL)


def highest_begun(layout: Layout, ticket: str) -> int:
    """The highest attempt of a ticket that left anything in this home, 0 when none did: a folder while it lives, and
    an artifact from its claim on. A ledger that was lost may have begun one that no comment counted yet.
    """
    lived = [path.name.removeprefix(f"{ticket}.") for path in layout.attempts.glob(f"{ticket}.*")]
    left = [path.name for path in (layout.artifacts / "tickets" / ticket).glob("*")]
    return max((int(name) for name in (*lived, *left) if _NUMBER.fullmatch(name)), default=0)


def _signal(attempt: LiveAttempt, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(attempt.pid, number)
