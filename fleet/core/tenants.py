"""Tenants: teams that share a fleet. One table each in the operator's settings, and it may only tighten (I22). Pure.

A repository belongs to one tenant, and its tickets spend from that tenant's budget and run in its places alone. What
counts is never weaker than the operator's floor: a looser value is refused where it is read, and where the floor came
down later the floor counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase

from fleet.core.ticket import DEFAULT_TENANT, TicketLimits

# A tenant's name is a part of keys and ids.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """``repos``: whose tickets are this tenant's (owner/name, ``*`` for any letters). ``tickets``: its live attempts.

    ``day_usd``: its share of a day. ``limits``: of one ticket, as in ``[limits]``. What is not named is the fleet's.
    """

    repos: tuple[str, ...] = ()
    tickets: int | None = None
    day_usd: float | None = None
    limits: Mapping[str, int | float | bool] = field(default_factory=dict)


Tenants = Mapping[str, TenantSettings]


def tenant_of(tenants: Tenants, repo: str) -> str:
    """The first tenant, in the order of the file, that names the repository; else ``default``."""
    for name, tenant in tenants.items():
        if any(fnmatchcase(repo.lower(), pattern.lower()) for pattern in tenant.repos):
            return name
    return DEFAULT_TENANT


def others(tenants: Tenants, mine: str) -> tuple[str, ...]:
    """Every other name under which an issue may have become a ticket before its repository changed hands."""
    return tuple(name for name in (DEFAULT_TENANT, *tenants) if name != mine)


def limits_of(floor: TicketLimits, tenant: TenantSettings | None) -> TicketLimits:
    """Each limit is the tenant's where it is tighter than the floor, and the floor otherwise."""
    if tenant is None:
        return floor
    asked = {one.name: tenant.limits.get(one.name, getattr(floor, one.name)) for one in fields(TicketLimits)}
    if "usd" in tenant.limits and "unknown_prices" not in tenant.limits:
        # Who names a dollar limit means it: what cannot be priced must not slip past it.
        asked["unknown_prices"] = False
    return replace(floor, **{name: min(value, getattr(floor, name)) for name, value in asked.items()})


@dataclass(frozen=True, slots=True)
class Money:
    """What may be spent on models, in US dollars: a UTC day of this home, of each tenant, a UTC month of the fleet.

    ``soft``: the share of a ticket's dollars after which it asks; 1 for never.
    """

    day_usd: float = 20.0
    tenant_usd: float | None = None
    fleet_usd: float | None = None
    soft: float = 0.8
    tenants: Mapping[str, float] = field(default_factory=dict)

    def tenant(self, name: str) -> float:
        """A tenant's day: the tightest of its own, of every tenant's, and of the home's."""
        common = self.day_usd if self.tenant_usd is None else self.tenant_usd
        return min(self.tenants.get(name, common), common, self.day_usd)

    @property
    def fleet(self) -> float:
        """A month of the whole fleet; not named, it is bounded by its days alone."""
        most = 31 * self.day_usd
        return most if self.fleet_usd is None else min(self.fleet_usd, most)
