"""Who may call which model now: the decision before a call, and the settling after it. Blocking; no HTTP."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from fleet.adapters.spend import SpendBook
from fleet.adapters.telemetry import about_ticket, log
from fleet.core.ports import Clock, Ids
from fleet.core.recovery import Recovered, Taken
from fleet.core.spend import MICRO, Caps, Price, PriceTable, Refusal, Reservation, Spent, Usage, at_most, read_key
from fleet.core.states import State
from fleet.core.ticket import Ticket, TicketLimits
from fleet.core.view import TicketView
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
    """A call that may be made, once. ``price`` None: unknown."""

    reservation: Reservation
    price: Price | None
    upstream: Upstream
    ticket: Ticket
    model: str


class Books:
    """``view`` looks a ticket up, ``day_usd`` is the home's limit for a UTC day, ``recovered`` what was taken over from a
    ledger that was lost. Raises TemporaryError.
    """

    def __init__(
        self,
        book: SpendBook,
        view: Callable[[str], TicketView | None],
        prices: PriceTable,
        upstreams: Callable[[], Mapping[str, Upstream]],
        secret: bytes,
        day_usd: float,
        clock: Clock,
        ids: Ids,
        incarnation: Callable[[], str] = lambda: "",
        recovered: Callable[[], Mapping[str, Taken]] = dict,
    ) -> None:
        self._book = book
        self._view = view
        self._prices = prices
        self._upstreams = upstreams
        self._secret = secret
        self._day_usd = day_usd
        self._clock = clock
        self._ids = ids
        self._incarnation = incarnation
        self._recovered = recovered

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
        limits = view.ticket.limits
        price = self._prices.find(provider, call.model)
        if price is None and not limits.unknown_prices:
            return Refused(
                Refusal.UNKNOWN_PRICE,
                f"The price of {call.model} is unknown, and a dollar limit was set: add it to prices.toml in the home.",
            )
        most = at_most(len(call.body), call.most_output)
        reservation = Reservation(
            self._ids.hex(24),
            ticket,
            attempt,
            _day(self._clock.now()),
            price.micros(most) if price else 0,
            most.total,
            price is not None,
        )
        refusal = self._book.reserve(reservation, self._caps(limits, view.recovered, reservation.day))
        if refusal is not None:
            with self._about(view.ticket, attempt):
                log().warning("model call refused", provider=provider, model=call.model, why=refusal.value)
            return Refused(refusal, self._sentence(refusal, limits))
        return Granted(reservation, price, upstream, view.ticket, call.model)

    def settle(self, granted: Granted, usage: Usage) -> None:
        micros = granted.price.micros(usage) if granted.price else 0
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
            "limits": asdict(view.ticket.limits) if view else {},
        }

    def _caps(self, limits: TicketLimits, before: Recovered | None, day: str) -> Caps:
        """What may be booked here: what was spent in a ledger that was lost is spent (I8)."""
        usd, calls, tokens = (before.usd, before.model_calls, before.tokens) if before else (0.0, 0, 0)
        lost = sum(taken.usd for taken in self._recovered().values() if _day(taken.at) == day)
        return Caps(
            round((limits.usd - usd) * MICRO),
            limits.model_calls - calls,
            limits.tokens - tokens,
            round((self._day_usd - lost) * MICRO),
        )

    def _sentence(self, refusal: Refusal, limits: TicketLimits) -> str:
        return {
            Refusal.BUDGET: f"The call could pass the ticket's limit of ${limits.usd:g}.",
            Refusal.CALLS: f"The ticket has used its {limits.model_calls} model calls.",
            Refusal.TOKENS: f"The call could pass the ticket's limit of {limits.tokens} tokens.",
            Refusal.DAY: f"The call could pass this home's limit of ${self._day_usd:g} a day.",
        }[refusal]


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


def _day(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d")
