"""What strikes many at once, by seed: outages, partitions, drains, a wall clock that jumps, a base that moves."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.simulate.forge import Forge
from fleet.simulate.lines import Weather, Zone
from fleet.simulate.owners import Broker, Owner
from fleet.simulate.people import People

EVERY_S = 50.0
REPOS = 7
# As ``fleet.local.host.GRACE``: whoever outlasts it is killed.
GRACE_S = 20.0


class Storms:
    """Looks once in ``EVERY_S`` seconds what strikes now."""

    def __init__(
        self, weather: Weather, forge: Forge, people: People, broker: Broker, supervisors: Sequence[Owner]
    ) -> None:
        self._weather = weather
        self._forge = forge
        self._people = people
        self._broker = broker
        self._supervisors = supervisors
        weather.time.after(EVERY_S, self._look)

    def _look(self) -> None:
        weather = self._weather
        weather.time.after(EVERY_S, self._look)
        for number in range(REPOS):
            if weather.faults.strike("base", f"o/r{number}"):
                self._forge.moves(f"o/r{number}")
        if struck := weather.faults.strike("clock", "wall"):
            weather.jump("jump", 3600.0 if struck == "leap" else 120.0)
        if weather.faults.strike("hold", "all"):
            self._people.hold(weather.chance.between("hold", 3.0, 60.0))
        self._outage(weather.faults.strike("outage", "all"))
        self._drains()

    def _outage(self, struck: str) -> None:
        weather = self._weather
        seconds = weather.chance.between("outage", 3.0, 60.0)
        until = weather.time.monotonic() + seconds
        match struck:
            case "store":
                weather.say("store", f"is away for {seconds:.0f} s")
                weather.away_until = until
            case "broker":
                weather.say("broker", f"is away for {seconds:.0f} s")
                self._broker.down_until = until
            case "forge":
                weather.say("forge", f"is away for {seconds:.0f} s")
                self._forge.away_until = until
            case "host":
                weather.chance.pick("which host", self._broker.hosts).fall()
            case "partition":
                zone = weather.chance.pick("which zone", self._zones())
                weather.say(zone.name, f"is cut off from the store for {seconds:.0f} s")
                zone.cut_until = until

    def _zones(self) -> Sequence[Zone]:
        return [*self._broker.zones, *(owner.zone for owner in self._supervisors)]

    def _drains(self) -> None:
        """SIGTERM: to a machine with its attempts, to the workers of a queue, to supervisors one by one."""
        weather = self._weather
        struck = weather.faults.strike("drain", "all")
        if struck:
            away = weather.chance.between("drained", 1.0, 90.0)
            if struck == "machine":
                weather.chance.pick("which machine", self._broker.hosts).drain(GRACE_S, away)
            else:
                self._broker.drain(weather.chance.pick("which queue", self._broker.queues), GRACE_S, away)
        for owner in self._supervisors:
            if weather.faults.strike("roll", owner.name):
                owner.drain()
