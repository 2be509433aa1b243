"""Who may call which model now: the decision before a call, and the settling after it. Blocking; no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from fleet.adapters.spend import SpendBook
from fleet.adapters.spend_journal import SpendJournal
from fleet.adapters.telemetry import about_ticket, log
from fleet.core.allowance import Allowance, allowance
from fleet.core.errors import TemporaryError
from fleet.core.journal import Lost
from fleet.core.ports import Clock, Ids
from fleet.core.recovery import Taken
from fleet.core.spend import (
    MICRO,
    Caps,
    Price,
    PriceTable,
    Refusal,
    Reservation,
    Spent,
    Usage,
    at_most,
    day_of,
    dollars,
    read_key,
    until_tomorrow,
)
from fleet.core.states import State
from fleet.core.tenants import Money
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from fleet.gateway.lost import less_what_was_lost
from fleet.gateway.wire import Call


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a provider is. ``socket``: a unix socket instead of the network. ``key`` empty: it needs none."""

    base_url: str
    key: str = ""
    socket: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    refusal: Refusal
    message: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Granted:
    """A call that may be made, once. ``price`` None: unknown. ``incarnation``: of the ledger that counts it."""

    reservation: Reservation
    price: Price | None
    upstream: Upstream
    ticket: Ticket
    model: str
    incarnation: str


# These limits have room again on the next UTC day, and nobody need be asked.
_TOMORROW = frozenset({Refusal.TENANT, Refusal.DAY})
# How often the reservations of gateways that died are looked for.
_CLOSE_EVERY_S = 30.0


class Books:
    """``journal`` stands beside the store. ``view`` looks a ticket up; ``longest``: seconds after which a call is over;
    ``recovered``: what was taken over from a ledger that was lost. Raises TemporaryError.
    """

    def __init__(
        self,
        book: SpendBook,
        journal: SpendJournal,
        view: Callable[[str], TicketView | None],
        prices: PriceTable,
        upstreams: Callable[[], Mapping[str, Upstream]],
        secret: bytes,
        money: Money,
        clock: Clock,
        ids: Ids,
        incarnation: Callable[[], str] = lambda: "",
        longest: float = 3600.0,
        recovered: Callable[[], Mapping[str, Taken]] = dict,
    ) -> None:
        self._book = book
        self._journal = journal
        self._view = view
        self._prices = prices
        self._upstreams = upstreams
        self._secret = secret
        self._money = money
        self._clock = clock
        self._ids = ids
        self._incarnation = incarnation
        self._longest = longest
        self._recovered = recovered
        self._closed_at = float("-inf")

    def who(self, key: str) -> tuple[str, int] | None:
        return read_key(self._secret, key)

    def grant(self, ticket: str, attempt: int, provider: str, call: Call) -> Granted | Refused:
        """Sets the most that the call can cost aside (I8); what is granted must be settled."""
        view = self._view(ticket)
        if view is None or view.attempt != attempt or view.cancel or view.state not in (State.STARTING, State.RUNNING):
            return Refused(Refusal.CLOSED, "This attempt is over; it may not call a model any more.")
        upstream = self._upstreams().get(provider)
        if upstream is None or (upstream.variable and not upstream.key):
            variable = upstream.variable if upstream else "its key"
            return Refused(
                Refusal.NO_KEY, f"There is no key for {provider}: run the command again with {variable} set."
            )
        wait = self._book.parked(provider)
        if wait > 0:
            return Refused(Refusal.PARKED, f"{provider} asked to be left alone for {wait:.0f} s more.", wait)
        price = self._prices.find(provider, call.model)
        if price is None and not view.ticket.limits.unknown_prices:
            return Refused(
                Refusal.UNKNOWN_PRICE,
                f"The price of {call.model} is unknown, and a dollar limit was set: add it to prices.toml in the home.",
            )
        return self._reserve(view, provider, call, price, upstream)

    def _reserve(
        self, view: TicketView, provider: str, call: Call, price: Price | None, upstream: Upstream
    ) -> Granted | Refused:
        self._close()
        most = at_most(len(call.body), call.most_output)
        reservation = Reservation(
            self._ids.hex(24),
            view.id,
            view.attempt,
            day_of(self._clock.now()),
            price.most(most) if price else 0,
            most.total,
            price is not None,
            view.ticket.tenant,
        )
        allowed = allowance(view, self._money.soft)
        caps = self._caps(allowed, view.ticket.tenant)
        # Before anything is set aside: a ledger that is lost meanwhile counts this call twice rather than never.
        incarnation = self._incarnation()
        caps = less_what_was_lost(caps, view, self._recovered().values(), reservation.day, self._lost(incarnation))
        refusal = self._book.reserve(reservation, caps, self._longest)
        if refusal is None:
            self._note(incarnation, reservation)
            return Granted(reservation, price, upstream, view.ticket, call.model, incarnation)
        with self._about(view.ticket, view.attempt):
            log().warning("model call refused", provider=provider, model=call.model, why=refusal.value)
        wait = until_tomorrow(self._clock.now()) if refusal in _TOMORROW else 0.0
        return Refused(refusal, self._sentence(refusal, allowed, reservation), wait)

    def _lost(self, incarnation: str) -> Lost:
        try:
            return self._journal.lost(incarnation)
        except OSError as error:
            raise TemporaryError(f"What was spent before cannot be read: {error}.") from error

    def _note(self, incarnation: str, reservation: Reservation) -> None:
        """A call that is not noted beside the store is not made."""
        try:
            self._journal.set_aside(incarnation, reservation)
        except OSError as error:
            self._book.settle(reservation, 0, Usage())
            raise TemporaryError(f"What the call may cost cannot be written down: {error}.") from error

    def _close(self) -> None:
        now = self._clock.monotonic()
        if now - self._closed_at >= _CLOSE_EVERY_S:
            self._closed_at = now
            closed = self._book.close()
            if closed:
                log().warning("calls of a gateway that died count as spent in full", calls=closed)

    def settle(self, granted: Granted, usage: Usage) -> None:
        micros = granted.price.micros(usage) if granted.price else 0
        self._journal.settle(granted.incarnation, granted.reservation, micros, usage)
        self._book.settle(granted.reservation, micros, usage)
        with self._about(granted.ticket, granted.reservation.attempt):
            log().info("model call", model=granted.model, tokens=usage.total, usd=micros / MICRO)

    def _about(self, ticket: Ticket, attempt: int) -> AbstractContextManager[None]:
        return about_ticket(ticket, attempt, self._incarnation)

    def park(self, provider: str, seconds: float) -> None:
        self._book.park(provider, seconds)

    def spent(self, ticket: str, attempt: int) -> dict[str, Any]:
        """What ``GET /spend`` answers."""
        view = self._view(ticket)
        return {
            "attempt": _plain(self._book.attempt(ticket, attempt)),
            "ticket": _plain(self._book.ticket(ticket)),
            "limits": asdict(allowance(view, self._money.soft).limits) if view else {},
        }

    def _caps(self, allowed: Allowance, tenant: str) -> Caps:
        limits, money = allowed.limits, self._money
        return Caps(
            _micros(limits.usd), limits.model_calls, limits.tokens,
            _micros(money.day_usd), _micros(money.tenant(tenant)), _micros(money.fleet),
            _micros(allowed.soft_usd) if money.soft < 1 else -1,
        )  # fmt: skip

    def _sentence(self, refusal: Refusal, allowed: Allowance, wanted: Reservation) -> str:
        """What stopped the call, for people: what was spent, what is wanted, and what would help."""
        limits, money = allowed.limits, self._money
        spent = self._book.ticket(wanted.ticket)
        aside = f", {dollars(spent.reserved / MICRO)} set aside" if spent.reserved else ""
        used = f"{dollars(spent.usd)} are spent{aside}"
        wants = f"{used}, the next call may cost {dollars(wanted.micros / MICRO)}"
        return {
            Refusal.SOFT: f"The ticket asks before it spends more: {used} of its ${limits.usd:g}.",
            Refusal.BUDGET: f"The call could pass the ticket's limit of ${limits.usd:g}: {wants}.",
            Refusal.CALLS: f"The ticket has used its {limits.model_calls} model calls.",
            Refusal.TOKENS: f"The call could pass the ticket's limit of {limits.tokens} tokens.",
            Refusal.TENANT: f"The call could pass the limit of ${money.tenant(wanted.tenant):g} a day of tenant "
            f"{wanted.tenant}: it goes on tomorrow (UTC), or with a higher limit.",
            Refusal.DAY: f"The call could pass this home's limit of ${money.day_usd:g} a day: "
            "it goes on tomorrow (UTC), or with a higher budget.day_usd.",
            Refusal.FLEET: f"The call could pass the fleet's limit of ${money.fleet:g} a month: "
            f"with the next month (UTC), or a higher budget.fleet_usd, say fleet retry {wanted.ticket}.",
        }[refusal]


def _micros(usd: float) -> int:
    return round(usd * MICRO)


def _plain(spent: Spent) -> dict[str, Any]:
    return {
        "usd": spent.usd,
        "reserved_usd": spent.reserved / MICRO,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cached_tokens": spent.cached_tokens,
        "model_calls": spent.calls,
        "unknown": bool(spent.unknown),
    }
