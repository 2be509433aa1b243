"""What people say about money, and by a comment. Everybody imports these from ``fleet.core.events``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetRaised:
    """A person allows the ticket ``usd`` dollars more; the limits of tenant, day and fleet hold all the same."""

    by: str
    usd: float
