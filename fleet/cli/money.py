"""What was spent, what is set aside, and what may be: in words and for scripts. Reads the gateway's book."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fleet.adapters.acl import Role
from fleet.adapters.spend import SpendBook
from fleet.adapters.spend_journal import SpendJournal
from fleet.core.allowance import allowance
from fleet.core.spend import MICRO, Level, Spent, day_of, dollars
from fleet.core.ticket import DEFAULT_TENANT
from fleet.core.view import TicketView
from fleet.gateway.lost import at_each_level
from fleet.intake.service import ledger_name
from fleet.local.client import Client


def book(fleet: Client) -> SpendBook:
    return SpendBook(fleet.wiring.client(Role.PEOPLE))


def levels(fleet: Client) -> Iterator[Level]:
    """The home's day, the fleet's month, and the day of each tenant that has a table of its own or spent something."""
    money, today, sums = fleet.settings.money(), day_of(fleet.wiring.clock.now()), book(fleet)
    ledger = fleet.ledger()
    taken = ledger.recovered().values()
    lost = SpendJournal(fleet.wiring.layout.spend).lost(ledger_name(ledger))

    def before(tenant: str = DEFAULT_TENANT) -> tuple[int, int, int]:
        return at_each_level(taken, lost, today, tenant)

    yield Level("day", _more(sums.day(today), before()[0]), money.day_usd)
    yield Level("fleet", _more(sums.month(today[:7]), before()[2]), money.fleet)
    for name in (*fleet.settings.tenants, DEFAULT_TENANT) if fleet.settings.tenants else ():
        yield Level(name, _more(sums.tenant(name, today), before(name)[1]), money.tenant(name))


def _more(spent: Spent, micros: int) -> Spent:
    """With what ledgers that were lost had let be spent: it counts as the gateway counts it."""
    return replace(spent, micros=spent.micros + micros)


def words(level: Level) -> str:
    """``$1.20 of $20 spent, $0.30 set aside``."""
    aside = f", {dollars(level.reserved_usd)} set aside" if level.spent.reserved else ""
    unknown = f", {level.spent.unknown} calls of unknown price" if level.spent.unknown else ""
    return f"{dollars(level.spent.usd)} of ${level.limit_usd:g} spent{aside}{unknown}"


def of_ticket(fleet: Client, view: TicketView) -> Level:
    """By the gateway's count, which is ahead of the log: calls under way are in it."""
    limits = allowance(view, fleet.settings.budget.soft).limits
    return Level(view.id, book(fleet).ticket(view.id), limits.usd)


def ticket_words(fleet: Client, view: TicketView) -> str:
    """Empty for a ticket that called no model."""
    level = of_ticket(fleet, view)
    spent = level.spent
    if not spent.calls:
        return ""
    allowed = allowance(view, fleet.settings.budget.soft)
    asks = f" (asks at {dollars(allowed.soft_usd)})" if fleet.settings.budget.soft < 1 and view.state.active else ""
    raised = f", ${view.raised_usd:g} of it allowed by people" if view.raised_usd else ""
    tokens = f"{spent.input_tokens + spent.cached_tokens} + {spent.output_tokens} tokens"
    return f"{words(level)}{asks}{raised}; {spent.calls} of {allowed.limits.model_calls} model calls, {tokens}"


def row(level: Level) -> dict[str, Any]:
    """For scripts, in dollars."""
    return {"spent_usd": level.spent.usd, "reserved_usd": level.reserved_usd, "limit_usd": level.limit_usd}


def rows(fleet: Client) -> dict[str, Any]:
    """``day``, ``fleet``, and below ``tenants`` those that have a table of their own."""
    first, second, *tenants = levels(fleet)
    return {"day": row(first), "fleet": row(second), "tenants": {one.name: row(one) for one in tenants}}


def short(spent: Spent) -> str:
    """For a table: ``$0.12``, with ``+`` while calls are under way."""
    if not spent.calls:
        return ""
    return dollars((spent.micros + spent.reserved) / MICRO) + ("+" if spent.reserved else "")
