"""The book of what models cost, in the ledger's store; written by the gateway alone (``fleet:{spend}:…``)."""

from __future__ import annotations

from fleet.adapters import keys
from fleet.adapters.redis_client import Asking, FleetRedis, load_lua, wait_aof
from fleet.core.codec import encode
from fleet.core.spend import Caps, Refusal, Reservation, Spent, Usage

_ENTITY = "spend"
_CLOSED_AT_ONCE = 100
_LIMITS = (
    Refusal.CALLS, Refusal.TOKENS, Refusal.SOFT, Refusal.BUDGET, Refusal.TENANT, Refusal.DAY, Refusal.FLEET,
)  # fmt: skip
_REFUSALS = {one.value: one for one in _LIMITS}


class SpendBook(Asking):
    """Every write is one Lua function, so concurrent calls never pass a limit together. Raises TemporaryError."""

    _AWAY = ("The ledger is away.", "Nothing was spent; try again soon.")

    def __init__(self, client: FleetRedis) -> None:
        self._redis = client
        self._reserve = client.register_script(load_lua("spend_reserve"))
        self._settle = client.register_script(load_lua("spend_settle"))
        self._close = client.register_script(load_lua("spend_close"))

    def reserve(self, wanted: Reservation, caps: Caps, seconds: float) -> Refusal | None:
        """None: set aside, and on disk. A call that was refused must not be made.

        ``seconds``: after so long the call is over, whatever became of its gateway; see ``close``.
        """
        args = [
            wanted.id, wanted.attempt, wanted.micros, wanted.tokens,
            caps.ticket_micros, caps.calls, caps.tokens, caps.tenant_micros, caps.day_micros, caps.fleet_micros,
            caps.soft_micros, seconds, encode(wanted),
        ]  # fmt: skip
        answer = self._ask(self._reserve, keys=self._keys(wanted), args=args)
        if answer:
            return _REFUSALS[answer.decode()]
        self._ask(wait_aof, self._redis)
        return None

    def close(self) -> int:
        """Closes what gateways that died left open: spent in full, once the call must be over. Answers how many."""
        args = [keys.of(_ENTITY, ""), _CLOSED_AT_ONCE]
        return int(self._ask(self._close, keys=[keys.of(_ENTITY, "open"), keys.of(_ENTITY, "due")], args=args))

    def settle(self, reserved: Reservation, micros: int, usage: Usage) -> None:
        """What the call used; the reservation is gone. Idempotent."""
        input_tokens = usage.input_tokens + usage.written_tokens
        args = [
            reserved.id, reserved.attempt, reserved.micros, reserved.tokens, micros,
            input_tokens, usage.output_tokens, usage.cached_tokens, 0 if reserved.priced else 1,
        ]  # fmt: skip
        self._ask(self._settle, keys=self._keys(reserved), args=args)

    def ticket(self, ticket: str) -> Spent:
        return self._spent(ticket, "")

    def attempt(self, ticket: str, attempt: int) -> Spent:
        return self._spent(ticket, f"{attempt}:")

    def day(self, day: str) -> Spent:
        """``day`` as YYYY-MM-DD, UTC."""
        return self._sum("day", day)

    def tenant(self, name: str, day: str) -> Spent:
        return self._sum("tenant", name, day)

    def month(self, month: str) -> Spent:
        """The whole fleet's; ``month`` as YYYY-MM, UTC."""
        return self._sum("month", month)

    # --- providers that asked for a pause ----------------------------------------------------------------------------
    def park(self, provider: str, seconds: float) -> None:
        """Nobody calls ``provider`` for ``seconds``; a longer pause that was there stays."""
        name = keys.of(_ENTITY, "parked", provider)
        wanted = max(1, int(seconds * 1000))
        if self._ask(self._redis.pttl, name) < wanted:
            self._ask(self._redis.set, name, b"1", px=wanted)

    def parked(self, provider: str) -> float:
        """Seconds until ``provider`` may be called again; 0 when it may."""
        left = self._ask(self._redis.pttl, keys.of(_ENTITY, "parked", provider))
        return max(0.0, float(left) / 1000)

    def _sum(self, *name: str) -> Spent:
        return _read(self._ask(self._redis.hgetall, keys.of(_ENTITY, *name)), "")

    def _spent(self, ticket: str, prefix: str) -> Spent:
        return _read(self._ask(self._redis.hgetall, keys.of(_ENTITY, "ticket", ticket)), prefix)

    def _keys(self, reservation: Reservation) -> list[str]:
        return [
            keys.of(_ENTITY, "ticket", reservation.ticket),
            keys.of(_ENTITY, "tenant", reservation.tenant, reservation.day),
            keys.of(_ENTITY, "day", reservation.day),
            keys.of(_ENTITY, "month", reservation.month),
            keys.of(_ENTITY, "open"),
            keys.of(_ENTITY, "due"),
        ]


def _read(row: dict[bytes, bytes], prefix: str) -> Spent:
    def number(name: str) -> int:
        return int(row.get(f"{prefix}{name}".encode(), b"0"))

    return Spent(
        micros=number("micros"),
        reserved=number("reserved"),
        input_tokens=number("input"),
        output_tokens=number("output"),
        cached_tokens=number("cached"),
        calls=number("calls"),
        unknown=number("unknown"),
    )
