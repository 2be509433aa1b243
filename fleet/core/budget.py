"""Money and tokens: counted before they are spent, never reset by a retry (I8)."""

from __future__ import annotations

from dataclasses import dataclass

# More than anybody spends. A sum of what a provider or an attempt claims stays a number that can be written down.
_MOST = 1e9


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent. ``usd`` in US dollars; ``unknown`` when some call had no known price."""

    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    model_calls: int = 0
    unknown: bool = False

    def __add__(self, other: Cost) -> Cost:
        """Nothing that is claimed takes away from what was spent, nor makes it endless."""
        return Cost(
            self.usd + min(max(other.usd, 0.0), _MOST),
            self.input_tokens + max(other.input_tokens, 0),
            self.output_tokens + max(other.output_tokens, 0),
            self.model_calls + max(other.model_calls, 0),
            self.unknown or other.unknown,
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """A hard limit with what was settled and what is reserved for calls under way."""

    limit_usd: float
    spent_usd: float = 0.0
    reserved_usd: float = 0.0

    @property
    def left_usd(self) -> float:
        return max(0.0, self.limit_usd - self.spent_usd - self.reserved_usd)

    def reserve(self, usd: float) -> Budget | None:
        """The budget with ``usd`` set aside, or None when that would pass the limit: the call must not be made."""
        if usd < 0 or usd > self.left_usd:
            return None
        return Budget(self.limit_usd, self.spent_usd, self.reserved_usd + usd)

    def settle(self, reserved: float, spent: float) -> Budget:
        """Replaces a reservation by what the call really cost; an overrun counts in full."""
        return Budget(self.limit_usd, self.spent_usd + spent, max(0.0, self.reserved_usd - reserved))
