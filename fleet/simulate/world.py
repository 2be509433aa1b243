"""One world: some tickets, one to three supervisors, two hosts, and everything that goes wrong until it stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fleet.core.events import StateChanged
from fleet.simulate.chance import Chance
from fleet.simulate.checks import Broken, Checks
from fleet.simulate.fates import make_ticket
from fleet.simulate.faults import LEVELS, Faults
from fleet.simulate.forge import Forge
from fleet.simulate.lines import Weather
from fleet.simulate.owners import Broker, Owner
from fleet.simulate.people import People
from fleet.simulate.places import Places
from fleet.simulate.record import Protections, Record
from fleet.simulate.storms import Storms
from fleet.simulate.timeline import Timeline
from supervisor.admission import Caps
from supervisor.policy import Policy

# Tickets arrive at this pace; faults go on a while after the last one, and then there is peace for a bounded time.
PER_SECOND = 3.0
_FAULTS_AFTER_S = 150.0
_PEACE_S = 2 * 3600.0
_LOOK_S = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What fixes a world entirely. ``only``: faults that may strike (None: all); ``numbers``: its tickets."""

    seed: int
    numbers: Sequence[int]
    level: str = "heavy"
    only: frozenset[str] | None = None
    protections: Protections = field(default_factory=Protections)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``broken``: the promise that did not hold. ``seconds`` are virtual. ``struck``: names of the faults, in order.

    ``take_overs``: how often a shard or the admission desk went to another life of a supervisor.
    """

    tickets: int
    broken: Broken | None
    seconds: float
    steps: int
    events: int
    ends: Counter[str]
    reached: Counter[str]
    superfluous: int
    take_overs: int
    faults: Counter[str]
    struck: tuple[str, ...]


def run(plan: Plan, note: Callable[[float, str, str], None] | None = None) -> Outcome:
    """The world from its beginning to its end. ``note(seconds, who, text)`` hears the story."""
    world = World(plan, note)
    broken: Broken | None = None
    try:
        world.live()
    except Broken as found:
        broken = found
    faults, checks = world.faults, world.checks
    events = sum(len(log) for log in world.record.log.values())
    return Outcome(
        len(checks.accepted),
        broken,
        world.time.monotonic(),
        checks.steps,
        events,
        checks.ends,
        checks.reached,
        checks.superfluous,
        world.record.take_overs,
        faults.counts,
        tuple(faults.struck),
    )


class World:
    def __init__(self, plan: Plan, note: Callable[[float, str, str], None] | None = None) -> None:
        chance = Chance(plan.seed)
        self.time = Timeline()
        self.faults = Faults(chance, LEVELS[plan.level], plan.only)
        self.record = Record(self.time.monotonic, plan.protections)
        self.weather = Weather(self.time, chance, self.faults, self.record)
        if note is not None:
            self.weather.note = lambda who, text: note(self.time.monotonic(), who, text)
        self.forge = Forge(self.weather, plan.protections)
        self.checks = Checks(self.record, self.forge)
        self.people = People(self.weather, self.checks, self.forge)
        self.checks.moved = self._moved
        places = Places(chance, self.forge, self.checks.claimed)
        self.broker = Broker(self.weather, places, plan.protections, self.checks.passed.add)
        self.last = self._bring(chance, plan.numbers)
        caps = Caps(400, 400, 100, 100_000)
        names = [f"supervisor {number + 1}" for number in range(1 + int(chance.fixed("supervisors") * 2.5))]
        owners = [Owner(self.weather, self.broker, name, Policy(), caps, self._idle) for name in names]
        self.time.after(5.0, self.people.sweep)
        Storms(self.weather, self.forge, self.people, self.broker, owners)

    def _bring(self, chance: Chance, numbers: Sequence[int]) -> float:
        last = 0.0
        for number in numbers:
            last = 1.0 + (number - 1) / PER_SECOND
            ticket = make_ticket(chance, number, last)
            self.checks.accepted[ticket.id] = ticket
            self.people.bring(ticket, last)
        return last

    def _moved(self, ticket: str, move: StateChanged) -> None:
        self.weather.say(ticket, f"is {move.state.value}: {move.reason.value} {move.detail}".rstrip())
        self.people.moved(ticket, move)

    def _idle(self) -> bool:
        return self.broker.live == 0

    def _doze(self) -> float:
        """Skips the time in which everybody only waits for a wall clock. Answers how many seconds."""
        if self.people.busy or self.broker.live or self.record.inbound_waits():
            return 0.0
        wall, due = self.time.now(), []
        for shelf in self.record.shelves.values():
            due += [order.due for order in shelf.outbox.values()]
            for view in shelf.views.values():
                if view.state.active:
                    due.append(view.until if view.until is not None else wall)
        seconds = min(due, default=wall) - wall - _LOOK_S
        if seconds <= _LOOK_S:
            return 0.0
        self.time.skip(seconds)
        self.record.skip(seconds)
        return seconds

    def live(self) -> None:
        """Raises Broken."""
        self.time.run(self.last + _FAULTS_AFTER_S)
        self.faults.over = True
        end = self.time.monotonic() + _PEACE_S
        while self.time.monotonic() < end:
            if self.people.busy == 0 and self.broker.live == 0 and self.checks.finished():
                break
            end += self._doze()
            self.time.run(self.time.monotonic() + _LOOK_S)
        self.checks.at_the_end()
