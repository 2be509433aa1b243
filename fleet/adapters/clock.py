"""The real clock: the only place that asks the machine for the time."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ``fleet.core.ports.Clock``."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
