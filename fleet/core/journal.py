"""What earlier ledgers of this home let models cost, as it stands in the journal beside the store. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fleet.core.spend import Reservation


@dataclass(frozen=True, slots=True)
class Entry:
    """One call. ``micros`` and ``tokens``: the most it can cost while it is set aside, and then what it used."""

    reservation: Reservation
    micros: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Used:
    """``micros`` in millionths of a US dollar."""

    micros: int = 0
    calls: int = 0
    tokens: int = 0

    def with_one(self, entry: Entry) -> Used:
        return Used(self.micros + entry.micros, self.calls + 1, self.tokens + entry.tokens)


@dataclass(frozen=True, slots=True)
class Lost:
    """``levels`` in millionths of a US dollar, by day (YYYY-MM-DD), month (YYYY-MM), and (tenant, day)."""

    tickets: Mapping[str, Used] = field(default_factory=dict)
    levels: Mapping[str | tuple[str, str], int] = field(default_factory=dict)

    def ticket(self, name: str) -> Used:
        return self.tickets.get(name, Used())

    def day(self, day: str) -> int:
        return self.levels.get(day, 0)

    def month(self, month: str) -> int:
        return self.levels.get(month, 0)

    def tenant(self, name: str, day: str) -> int:
        return self.levels.get((name, day), 0)


def lost(entries: Iterable[Entry]) -> Lost:
    """A call counts once: by its last entry, so in full until it was settled."""
    tickets: dict[str, Used] = {}
    levels: dict[str | tuple[str, str], int] = {}
    for entry in {entry.reservation.id: entry for entry in entries}.values():
        call = entry.reservation
        tickets[call.ticket] = tickets.get(call.ticket, Used()).with_one(entry)
        for level in (call.day, call.month, (call.tenant, call.day)):
            levels[level] = levels.get(level, 0) + entry.micros
    return Lost(tickets, levels)
