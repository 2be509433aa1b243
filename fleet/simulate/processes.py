"""Processes that work outside the supervisor: each a row of small steps, any of which may be its last, or come late."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from fleet.core.effects import Effect
from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, EventData, Heartbeat, Source
from fleet.core.view import TicketView
from fleet.simulate.lines import Line, LineLedger, Weather

T = TypeVar("T")
# What a process does: between two steps it yields the seconds until the next one.
Steps = Generator[float, None, T]
BEAT_S = 5.0
_TRIES = 12
_LONGEST_S = 60.0


class Process:
    """Runs ``steps`` to their end, unless it is killed. ``name`` is stable over runs of a seed."""

    def __init__(self, weather: Weather, line: Line, steps: Steps[Any], ended: Callable[[], None]) -> None:
        self.dead = False
        self._weather = weather
        self._line = line
        self._steps = steps
        self._ended = ended
        weather.time.after(0.01, self._go)

    def kill(self) -> None:
        if not self.dead:
            self._weather.say(self._line.name, "is killed")
            self._end()

    def _end(self) -> None:
        self.dead = True
        self._ended()

    def _go(self) -> None:
        weather, line = self._weather, self._line
        struck = weather.faults.strike("worker", line.name) if weather.faults.rates else ""
        if struck == "kill":
            self.kill()
            return
        if struck == "freeze":
            seconds = weather.chance.between(f"frozen {line.name}", 3.0, 150.0)
            weather.say(line.name, f"is frozen for {seconds:.0f} s")
            weather.time.after(seconds, self._step)
            return
        if struck == "cut":
            line.cut(weather.chance.between(f"cut {line.name}", 2.0, 90.0))
        if struck == "jump":
            weather.jump(f"jump {line.name}", 120.0)
        self._step()

    def _step(self) -> None:
        if self.dead:
            return
        try:
            seconds = next(self._steps)
        except StopIteration:
            self._end()
        except TemporaryError as error:
            self._weather.say(self._line.name, f"gives up: {error}")
            self._end()
        else:
            self._weather.time.after(seconds, self._go)


def kill_all(processes: Iterable[Process]) -> None:
    """Those that have not ended by themselves."""
    for process in processes:
        process.kill()


class Work:
    """What gates and publisher share, as ``fleet.adapters.teller`` does it: heartbeats, and words that arrive."""

    def __init__(self, ledger: LineLedger, source: Source) -> None:
        self.ledger = ledger
        self.source = source
        self.weather = ledger.line.weather
        self.name = ledger.line.name
        self.withdrawn = False

    def tell(self, view: TicketView, data: EventData) -> Steps[None]:
        """Raises TemporaryError after about seven minutes without a store."""
        event = Envelope(view.ticket.tenant, view.id, view.attempt, 0, self.weather.time.now(), data, self.source)
        self.weather.say(self.name, f"tells {event.kind}")
        yield from self.insist(lambda: self.ledger.send(self.source, [event], durable=True))

    def insist(self, call: Callable[[], T]) -> Steps[T]:
        for number in range(_TRIES):
            try:
                return call()
            except TemporaryError:
                if number + 1 == _TRIES:
                    raise
            yield min(_LONGEST_S, 2.0**number)
        raise AssertionError("unreachable")

    def during(self, view: TicketView, order: Effect, seconds: float) -> Steps[None]:
        """Work that takes a while: heartbeats, and a look whether the order still stands."""
        until = self.weather.time.monotonic() + seconds
        while (left := until - self.weather.time.monotonic()) > 0:
            yield min(BEAT_S, left)
            if left <= BEAT_S:
                return
            try:
                self.withdrawn = self.withdrawn or self.ledger.outbox(order.id, order.ticket) is None
                beat = Envelope(
                    view.ticket.tenant, view.id, view.attempt, 0, self.weather.time.now(), Heartbeat(0), self.source
                )
                self.ledger.send(self.source, [beat])
            except TemporaryError:
                continue
