"""Supervisor processes: the real one, turned by the virtual clock, killed and started again; and the broker's hands."""

from __future__ import annotations

from collections.abc import Callable

from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import FleetError, TemporaryError
from fleet.simulate.attempts import Host
from fleet.simulate.chance import Jitter
from fleet.simulate.checks import Broken
from fleet.simulate.gates import Gates
from fleet.simulate.lines import Killed, Line, LineLedger, LineShards, Weather
from fleet.simulate.places import Places
from fleet.simulate.processes import Process, Steps
from fleet.simulate.publishing import Publishing
from fleet.simulate.record import Protections
from supervisor.admission import Caps
from supervisor.policy import Policy
from supervisor.service import Supervisor
from workers.tasks import AgentTasks

BUSY_S, IDLE_S = (0.3, 2.2), (4.0, 6.0)


class Owner:
    """One supervisor process and its later lives. ``idle``: nothing goes on outside, so that it may look less often."""

    def __init__(
        self, weather: Weather, broker: Broker, name: str, policy: Policy, caps: Caps, idle: Callable[[], bool]
    ) -> None:
        self._weather = weather
        self._broker = broker
        self._name = name
        self._policy = policy
        self._caps = caps
        self._idle = idle
        self._lives = 0
        self.start()

    def start(self) -> None:
        self._lives += 1
        line = Line(self._weather, self._name, "store")
        store = LineShards(line, f"{self._name}.{self._lives}")
        dice = Jitter(self._weather.chance, self._name)
        self._supervisor = Supervisor(store, self._broker, self._weather.time, dice, self._policy, self._caps)
        self._weather.time.after(0.1, self._turn)

    def _turn(self) -> None:
        weather = self._weather
        try:
            pause = self._supervisor.once(0)
        except Killed:
            seconds = weather.chance.between(f"restart of {self._name}", 0.5, 20.0)
            weather.time.after(seconds, self.start)
            return
        except Broken:
            raise
        except Exception as error:
            # A boundary: whatever ends a supervisor that nobody killed is a bug of ours.
            what = error.message if isinstance(error, FleetError) else repr(error)
            raise Broken("I6", "", f"the supervisor ended in {type(error).__name__}: {what}") from error
        low, high = IDLE_S if self._idle() else BUSY_S
        weather.time.after(pause or weather.chance.between(f"pace of {self._name}", low, high), self._turn)


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
        self._runs += 1
        weather, owner = self._weather, f"worker {self._runs}"
        if effect.kind is EffectKind.START_ATTEMPT:
            self._attempt(effect, about)
            return
        ledger = LineLedger(Line(weather, about))
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
        Process(weather, ledger.line, steps, lambda: self._changed(-1))

    def _attempt(self, effect: Effect, about: str) -> None:
        host = self._weather.chance.pick(f"host for {about}", self.hosts)
        tasks = AgentTasks(LineLedger(Line(self._weather, about)), host, self._weather.time, "agents")
        try:
            tasks.attempt(effect.ticket, effect.attempt, effect.round)
        except TemporaryError:
            self._weather.say("agents", f"a worker could not start attempt {effect.attempt} of {effect.ticket}")
