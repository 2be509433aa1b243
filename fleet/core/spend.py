"""What a model call may cost: prices, reservations, and the placeholder key that says who asks. Pure.

Money is counted in whole millionths of a US dollar, so that sums in the store are exact. A call is reserved at the most
that it can cost before it is made, and settled afterwards at what the provider reported (I8).
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from fleet.core.errors import UsageError
from fleet.core.ticket import DEFAULT_TENANT

MICRO = 1_000_000
_KEY = re.compile(r"fleet-([a-z0-9][a-z0-9._-]{0,79})\.([0-9]{1,9})\.([0-9a-f]{32})")
# Text is three to four bytes a token, code less; two is fewer than any tokenizer needs on average.
_BYTES_PER_TOKEN = 2
_BYTES_PER_TOKEN_SENT = 3
_DAY_S = 86_400.0


class Refusal(Enum):
    """Why the gateway did not pass a call on; the value stands in the answer's ``x-fleet-refused``."""

    BUDGET = "budget"
    CALLS = "calls"
    TOKENS = "tokens"
    SOFT = "soft"
    TENANT = "tenant"
    DAY = "day"
    FLEET = "fleet"
    PARKED = "parked"
    NO_KEY = "no_key"
    UNKNOWN_PRICE = "unknown_price"
    CLOSED = "closed"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. ``input_tokens`` counts neither those read from the cache nor those written to it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0

    def most(self, other: Usage) -> Usage:
        """The larger of each: a stream repeats and corrects its counts, and none is taken back."""
        return Usage(*(max(getattr(self, one.name), getattr(other, one.name)) for one in fields(Usage)))

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens + self.cached_tokens + self.written_tokens


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens of each kind."""

    input: float
    output: float
    cached: float
    written: float

    def most(self, usage: Usage) -> int:
        """Millionths of a dollar, if all of the input were of its dearest kind: which kind it is, the answer says."""
        given = usage.total - usage.output_tokens
        return math.ceil(given * max(self.input, self.cached, self.written) + usage.output_tokens * self.output)

    def micros(self, usage: Usage) -> int:
        """Millionths of a dollar, rounded up: never less than what was used."""
        return math.ceil(
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cached_tokens * self.cached
            + usage.written_tokens * self.written
        )


@dataclass(frozen=True, slots=True)
class PriceRow:
    """``model`` may hold ``*``; the first row that fits counts."""

    model: str
    price: Price


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices per provider, best first. ``as_of`` is the date of the newest row, for people."""

    as_of: str
    rows: Mapping[str, tuple[PriceRow, ...]]

    def find(self, provider: str, model: str) -> Price | None:
        for row in self.rows.get(provider, ()):
            if fnmatchcase(model, row.model):
                return row.price
        return None

    def over(self, other: PriceTable) -> PriceTable:
        """This table first, ``other`` for what it does not know."""
        names = {*self.rows, *other.rows}
        rows = {name: (*self.rows.get(name, ()), *other.rows.get(name, ())) for name in names}
        return PriceTable(max(self.as_of, other.as_of), rows)


def read_prices(data: Mapping[str, Any], name: str) -> PriceTable:
    """A table from parsed TOML: ``[provider."model"] input = 2.0, output = 10.0``. Raises UsageError naming the row."""
    rows: dict[str, tuple[PriceRow, ...]] = {}
    for provider, models in data.items():
        if provider == "as_of":
            continue
        if not isinstance(models, Mapping):
            raise UsageError(f"{name}: [{provider}] is no table.", 'Write [provider."model"].')
        rows[provider] = tuple(
            PriceRow(model, _price(row, f"{name}: {provider}.{model}")) for model, row in models.items()
        )
    return PriceTable(str(data.get("as_of", "")), rows)


def _price(row: Any, where: str) -> Price:
    numbers = {
        key: row[key] for key in ("input", "output", "cached", "written") if isinstance(row, Mapping) and key in row
    }
    wrong = [key for key, value in numbers.items() if not isinstance(value, int | float) or not 0 <= value < math.inf]
    if wrong or not {"input", "output"} <= numbers.keys():
        raise UsageError(f"{where} is no price.", "Write input and output in dollars for a million tokens.")
    given = float(numbers["input"])
    # Without a price of its own a cache costs what plain input costs, and its writing a quarter more.
    cached, written = float(numbers.get("cached", given)), float(numbers.get("written", given * 1.25))
    return Price(given, float(numbers["output"]), cached, written)


def at_most(body_bytes: int, output_tokens: int) -> Usage:
    """The most that a call can use: all of its input written to the cache, and every token that it may answer."""
    return Usage(output_tokens=output_tokens, written_tokens=-(-body_bytes // _BYTES_PER_TOKEN))


def with_input(usage: Usage, body_bytes: int) -> Usage:
    """``usage``, with the input as it was sent where nobody told any: it was read, and will be on the bill."""
    if usage.total > usage.output_tokens:
        return usage
    return usage.most(Usage(input_tokens=-(-body_bytes // _BYTES_PER_TOKEN_SENT)))


# --- who asks --------------------------------------------------------------------------------------------------------
def attempt_key(secret: bytes, ticket: str, attempt: int) -> str:
    """The placeholder that an attempt shows instead of a key; worth nothing anywhere else."""
    return f"fleet-{ticket}.{attempt}.{_seal(secret, ticket, attempt)}"


def read_key(secret: bytes, key: str) -> tuple[str, int] | None:
    """(ticket, attempt) of a placeholder that this fleet made; None for anything else."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    ticket, attempt = found[1], int(found[2])
    return (ticket, attempt) if hmac.compare_digest(_seal(secret, ticket, attempt), found[3]) else None


def _seal(secret: bytes, ticket: str, attempt: int) -> str:
    return hmac.new(secret, f"{ticket}.{attempt}".encode(), hashlib.sha256).hexdigest()[:32]


# --- what was spent --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Spent:
    """``micros`` (settled) and ``reserved`` in millionths of a dollar; ``unknown``: calls without a price."""

    micros: int = 0
    reserved: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 0
    unknown: int = 0

    @property
    def usd(self) -> float:
        return self.micros / MICRO


@dataclass(frozen=True, slots=True)
class Caps:
    """Hard limits of a call's ticket, of its tenant's and the home's day, and of the fleet's month.

    Millionths of a dollar, calls, tokens. ``soft_micros``: once the ticket has spent that much it asks (-1: never).
    """

    ticket_micros: int
    calls: int
    tokens: int
    day_micros: int
    tenant_micros: int
    fleet_micros: int
    soft_micros: int = -1


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one call was set aside for. ``micros`` 0 with ``priced`` False: only calls and tokens are counted.

    ``day`` as YYYY-MM-DD, UTC.
    """

    id: str
    ticket: str
    attempt: int
    day: str
    micros: int
    tokens: int
    priced: bool = True
    tenant: str = DEFAULT_TENANT

    @property
    def month(self) -> str:
        return self.day[:7]


def dollars(usd: float) -> str:
    """For people: cents, and more digits where cents would say nothing."""
    return f"${usd:.2f}" if usd >= 0.1 or not usd else f"${usd:.4f}"


def day_of(now: float) -> str:
    """The UTC day of a Unix time, as YYYY-MM-DD."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d")


def until_tomorrow(now: float) -> float:
    """Seconds from a Unix time to the next UTC day; above 0."""
    return _DAY_S - now % _DAY_S


@dataclass(frozen=True, slots=True)
class Level:
    """A limit that people look at while it is used up. ``name``: ``day``, ``fleet``, or that of a tenant."""

    name: str
    spent: Spent
    limit_usd: float

    @property
    def reserved_usd(self) -> float:
        return self.spent.reserved / MICRO
