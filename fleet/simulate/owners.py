"""Supervisor processes: the real one, turned by the virtual clock, killed and started again; and the broker's hands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import FleetError, TemporaryError
from fleet.simulate.attempts import Host
from fleet.simulate.chance import Jitter
from fleet.simulate.checks import Broken
from fleet.simulate.gates import Gates
from fleet.simulate.lines import Killed, Line, LineLedger, LineShards, Weather, Zone
from fleet.simulate.places import Places
from fleet.simulate.processes import Process, Steps, kill_all
from fleet.simulate.publishing import Publishing
from fleet.simulate.record import Protections
from supervisor.admission import Caps
from supervisor.policy import Policy
from supervisor.service import Supervisor
from workers.tasks import AgentTasks

# Both shorter than a lease, as in the fleet.
BUSY_S, IDLE_S = (0.3, 2.2), (2.8, 3.6)
_REDELIVERED_S = 5.0
_ROLES = {EffectKind.RUN_GATES: "gates"}  # everything else that is not an attempt is the publisher's


class Owner:
    """One supervisor process and its later lives. ``idle``: nothing goes on outside, so that it may look less often."""

    def __init__(
        self, weather: Weather, broker: Broker, name: str, policy: Policy, caps: Caps, idle: Callable[[], bool]
    ) -> None:
        self._weather = weather
        self._broker = broker
        self.name = name
        self.zone = Zone(name)
        self._stopping = False
        self._policy = policy
        self._caps = caps
        self._idle = idle
        self._lives = 0
        self.start()

    def start(self) -> None:
        self._lives += 1
        self._stopping = False
        line = Line(self._weather, self.name, "store", self.zone)
        store = LineShards(line, f"{self.name}.{self._lives}")
        dice = Jitter(self._weather.chance, self.name)
        self._supervisor = Supervisor(store, self._broker, self._weather.time, dice, self._policy, self._caps)
        self._weather.time.after(0.1, self._turn)

    def drain(self) -> None:
        """SIGTERM: it ends after the pass it is at."""
        self._stopping = True

    def _leave(self) -> None:
        """Gives its leases back, unless it is killed on the way; another life begins later and joins the others."""
        self._weather.say(self.name, "drains")
        with suppress(Killed):
            self._supervisor.leave()
        self._weather.time.after(self._weather.chance.between(f"drained {self.name}", 0.5, 60.0), self.start)

    def _turn(self) -> None:
        weather = self._weather
        if self._stopping:
            self._leave()
            return
        try:
            pause = self._supervisor.once(0)
        except Killed:
            seconds = weather.chance.between(f"restart of {self.name}", 0.5, 20.0)
            weather.time.after(seconds, self.start)
            return
        except Broken:
            raise
        except Exception as error:
            # A boundary: whatever ends a supervisor that nobody killed is a bug of ours.
            what = error.message if isinstance(error, FleetError) else repr(error)
            raise Broken("I6", "", f"the supervisor ended in {type(error).__name__}: {what}") from error
        if self._supervisor.trouble:
            raise Broken("I6", "", f"the supervisor could not go on with a ticket: {self._supervisor.trouble}")
        low, high = IDLE_S if self._idle() else BUSY_S
        weather.time.after(pause or weather.chance.between(f"pace of {self.name}", low, high), self._turn)


class Broker:
    """Implements ``fleet.core.ports.Waker``: may lose, double, delay and forge; and runs what it delivers."""

    def __init__(
        self, weather: Weather, places: Places, protections: Protections, passed: Callable[[str], None]
    ) -> None:
        self._weather = weather
        self._places = places
        self._protections = protections
        self._passed = passed
        self._runs = 0
        self.live = 0
        self.down_until = 0.0
        self.hosts = [Host(weather, places, f"host{number}", self._changed) for number in (1, 2)]
        self.queues = ("gates", "publisher")
        self._zones = {name: Zone(name) for name in self.queues}
        self._at_work: dict[str, set[Process]] = {name: set() for name in self.queues}
        self._closed_until = dict.fromkeys(self.queues, 0.0)

    @property
    def zones(self) -> tuple[Zone, ...]:
        return (*(host.zone for host in self.hosts), *self._zones.values())

    def drain(self, queue: str, grace: float, away: float) -> None:
        """The workers of ``queue`` take nothing new for ``away`` seconds; who outlasts the grace is killed."""
        weather = self._weather
        weather.say(queue, f"workers drain, and are back after {away:.0f} s")
        self._closed_until[queue] = weather.time.monotonic() + away
        there = tuple(self._at_work[queue])
        weather.time.after(grace, lambda: kill_all(there))

    def _changed(self, by: int) -> None:
        self.live += by

    def wake(self, effect: Effect) -> None:
        weather = self._weather
        about = f"{effect.kind.value} of {effect.ticket}"
        struck = weather.faults.strike("wake", about) if weather.faults.rates else ""
        if struck:
            weather.say("broker", f"the wake-up {effect.id}: {struck}")
        if struck == "lose" or weather.time.monotonic() < self.down_until:
            return
        weather.time.after(0.02, lambda: self._deliver(effect, about))
        if struck in ("double", "delay"):
            seconds = weather.chance.between(f"late {about}", 0.01, 120.0 if struck == "delay" else 10.0)
            weather.time.after(seconds, lambda: self._deliver(effect, about))
        if struck == "forge":
            number = 1 + int(weather.chance.roll(f"forged {about}") * 3)
            forged = Effect(effect.kind, effect.ticket, number, effect.round, effect.turn)
            weather.time.after(0.5, lambda: self._deliver(forged, about))

    def _deliver(self, effect: Effect, about: str) -> None:
        weather = self._weather
        role = _ROLES.get(effect.kind, "publisher")
        if effect.kind is EffectKind.START_ATTEMPT:
            self._attempt(effect, about)
            return
        if self._closed_until[role] > weather.time.monotonic():
            weather.time.after(_REDELIVERED_S, lambda: self._deliver(effect, about))
            return
        self._runs += 1
        owner = f"worker {self._runs}"
        ledger = LineLedger(Line(weather, about, zone=self._zones[role]))
        ids = (effect.ticket, effect.attempt, effect.round)
        steps: Steps[None]
        if effect.kind is EffectKind.RUN_GATES:
            steps = Gates(self._places, ledger, owner, self._passed).steps(*ids)
        else:
            publishing = Publishing(self._places, ledger, owner, self._protections)
            steps = {
                EffectKind.PUBLISH: publishing.pull_request,
                EffectKind.STATUS: publishing.status,
                EffectKind.WITHDRAW: publishing.withdraw,
            }[effect.kind](*ids)
        self.live += 1
        at_work = self._at_work[role]
        process = Process(weather, ledger.line, steps, lambda: self._ended(at_work, process))
        at_work.add(process)

    def _ended(self, at_work: set[Process], process: Process) -> None:
        at_work.discard(process)
        self.live -= 1

    def _attempt(self, effect: Effect, about: str) -> None:
        hosts = [host for host in self.hosts if not host.draining]
        if not hosts:
            self._weather.time.after(_REDELIVERED_S, lambda: self._deliver(effect, about))
            return
        host = self._weather.chance.pick(f"host for {about}", hosts)
        tasks = AgentTasks(LineLedger(Line(self._weather, about)), host, self._weather.time, "agents")
        try:
            tasks.attempt(effect.ticket, effect.attempt, effect.round)
        except TemporaryError:
            self._weather.say("agents", f"a worker could not start attempt {effect.attempt} of {effect.ticket}")
