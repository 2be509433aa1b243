"""Real chance: the only place that draws random numbers."""

from __future__ import annotations

import random
import secrets


class SystemIds:
    """Implements ``fleet.core.ports.Ids`` from the kernel's random source."""

    def hex(self, n: int) -> str:
        return secrets.token_hex((n + 1) // 2)[:n]

    def token(self, nbytes: int) -> str:
        return secrets.token_urlsafe(nbytes)


class SystemDice:
    """Implements ``fleet.core.ports.Dice``; jitter needs no secrecy."""

    def uniform(self) -> float:
        return random.random()
