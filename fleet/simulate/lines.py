"""How processes reach the store: each over a line of its own that may be cut, or lose the answer to what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fleet.core.codec import encode
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import InternalError, TemporaryError
from fleet.core.events import Envelope, Source
from fleet.core.gates import Approval, GatePlanRecord, GateRecord, VerdictRecord
from fleet.core.step import Batch, Loaded, Refused, Step
from fleet.core.view import Hold, TicketView
from fleet.simulate.chance import Chance
from fleet.simulate.faults import Faults
from fleet.simulate.record import Record
from fleet.simulate.timeline import Timeline

T = TypeVar("T")
_NESTED = 3


class Killed(BaseException):
    """The process ends here by kill -9; no handler of its own may see it."""


@dataclass(slots=True)
class Zone:
    """Processes that a partition cuts off from the store together."""

    name: str
    cut_until: float = 0.0


@dataclass(slots=True)
class Weather:
    """What all lines share. ``away_until``: the store itself is down; ``frozen``: processes that stand still now."""

    time: Timeline
    chance: Chance
    faults: Faults
    record: Record
    note: Callable[[str, str], None] | None = None
    away_until: float = 0.0
    frozen: int = 0

    def say(self, who: str, text: str) -> None:
        if self.note is not None:
            self.note(who, text)

    def jump(self, question: str, reach: float) -> None:
        """The wall clock is moved, at most ``reach`` seconds this way or that; nothing else is."""
        self.time.skew += self.chance.between(question, -reach, reach)
        self.say("wall clock", f"is now {self.time.skew:+.0f} s off")


class Line:
    """One process's connection. ``name`` is stable over runs of a seed."""

    def __init__(self, weather: Weather, name: str, place: str = "ledger", zone: Zone | None = None) -> None:
        self.weather = weather
        self.name = name
        self.zone = zone or Zone(name)
        self._place = place
        self._cut_until = 0.0

    def cut(self, seconds: float) -> None:
        self.weather.say(self.name, f"is cut off from the store for {seconds:.0f} s")
        self._cut_until = self.weather.time.monotonic() + seconds

    def call(self, act: Callable[[], T]) -> T:
        """``act`` on the store, unless something strikes before, or after it is done."""
        weather = self.weather
        struck = weather.faults.strike(self._place, self.name) if weather.faults.rates else ""
        if struck and struck not in ("kill_after", "deaf"):
            self._before(struck)
        if max(self._cut_until, self.zone.cut_until, weather.away_until) > weather.time.monotonic():
            raise TemporaryError("The ledger does not answer.")
        done = act()
        if struck == "deaf":
            weather.say(self.name, "does not hear the store's answer")
            raise TemporaryError("The ledger does not answer.")
        if struck == "kill_after":
            weather.say(self.name, "is killed right after a call of the store")
            raise Killed
        return done

    def _before(self, struck: str) -> None:
        weather = self.weather
        if struck == "kill":
            weather.say(self.name, "is killed right before a call of the store")
            raise Killed
        if struck == "freeze" and weather.frozen < _NESTED:
            seconds = weather.chance.between(f"frozen {self.name}", 3.0, 60.0)
            weather.say(self.name, f"is frozen for {seconds:.0f} s before a call of the store")
            weather.frozen += 1
            try:
                weather.time.sleep(seconds)
            finally:
                weather.frozen -= 1
            weather.say(self.name, "goes on")
        if struck == "cut":
            self.cut(weather.chance.between(f"cut {self.name}", 2.0, 45.0))
        if struck == "jump":
            weather.jump(f"jump {self.name}", 120.0)
        if struck == "away":
            raise TemporaryError("The ledger does not answer.")


class LineLedger:
    """Implements ``fleet.core.ports.Ledger`` and ``AttemptChannel`` for one process."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._record = line.weather.record

    def view(self, ticket: str) -> TicketView | None:
        return self.line.call(lambda: self._record.view(ticket))

    def views(self) -> Iterator[TicketView]:
        return iter(
            self.line.call(lambda: [view for shelf in self._record.shelves.values() for view in shelf.views.values()])
        )

    def past(self, ticket: str) -> None:
        """Nothing is forgotten in a played world: it does not last that long."""

    def log(self, ticket: str, after: str = "0", block_ms: int | None = None) -> Sequence[tuple[str, Envelope]]:
        rows = self.line.call(lambda: self._record.log.get(ticket, []))
        return [(str(number), event) for number, event in enumerate(rows, 1) if number > int(after)]

    def send(self, source: Source, events: Sequence[Envelope], durable: bool = False) -> None:
        for event in events:
            if event.source is not source:
                raise InternalError(f"{event.kind} says it comes from {event.source.value}, not {source.value}.")
        put = self._on_its_way if source is Source.ATTEMPTS else self._record.put
        self.line.call(lambda: [put(event) for event in events])

    def _on_its_way(self, event: Envelope) -> None:
        """A word of an attempt: its channel may lose it, double it, or let others overtake it."""
        weather = self.line.weather
        struck = weather.faults.strike("word", self.line.name) if weather.faults.rates else ""
        if not struck:
            self._record.put(event)
            return
        weather.say(self.line.name, f"{event.kind} {event.seq or ''}: {struck} on its way")
        if struck == "double":
            self._record.put(event)
        if struck != "lose":
            seconds = weather.chance.between(f"late {self.line.name}", 0.1, 40.0)
            weather.time.after(seconds, lambda: self._record.put(event))

    def outbox(self, effect_id: str, ticket: str) -> Effect | None:
        return self.line.call(lambda: self._record.order(effect_id, ticket))

    def begin(self, role: str, effect: Effect, owner: str) -> bool:
        return self.line.call(lambda: self._record.begin(effect, owner))

    def claim(self, ticket: str, attempt: int, owner: str) -> bool:
        return self.begin("agents", Effect(EffectKind.START_ATTEMPT, ticket, attempt), owner)

    def commands(self, ticket: str, attempt: int, after: str, block_ms: int) -> Sequence[tuple[str, bytes]]:
        rows = self.line.call(lambda: self._record.told.get((ticket, attempt), ()))
        return [row for row in rows if int(row[0]) > int(after or "0")]

    def put_gate_plan(self, record: GatePlanRecord) -> None:
        where = (record.ticket, record.attempt, record.head)
        self.line.call(lambda: self._record.plans.__setitem__(where, record))

    def put_gate_record(self, record: GateRecord) -> None:
        where = (record.ticket, record.attempt, record.head)
        self.line.call(lambda: self._record.gates.setdefault(where, {}).__setitem__(record.name, record))

    def put_verdict(self, record: VerdictRecord) -> None:
        where = (record.ticket, record.attempt, record.round)
        self.line.call(lambda: self._record.verdicts.__setitem__(where, record))

    def gate_plan(self, ticket: str, attempt: int, head: str) -> GatePlanRecord | None:
        return self.line.call(lambda: self._record.plans.get((ticket, attempt, head)))

    def gate_records(self, ticket: str, attempt: int, head: str) -> tuple[GateRecord, ...]:
        return self.line.call(lambda: tuple(self._record.gates.get((ticket, attempt, head), {}).values()))

    def verdict(self, ticket: str, attempt: int, round: int) -> VerdictRecord | None:
        return self.line.call(lambda: self._record.verdicts.get((ticket, attempt, round)))

    def put_approval(self, approval: Approval) -> None:
        self.line.call(lambda: self._record.approved.setdefault(approval.ticket, []).append(approval))

    def approvals(self, ticket: str) -> tuple[Approval, ...]:
        return self.line.call(lambda: tuple(self._record.approved.get(ticket, ())))

    def incarnation(self) -> str:
        return "simulated"


class LineShards:
    """Implements ``fleet.core.step.Shards`` for one life of a supervisor."""

    incarnation = "simulated"

    def __init__(self, line: Line, member: str) -> None:
        self._line = line
        self._record = line.weather.record
        self._member = member

    def announce(self) -> int:
        return self._line.call(lambda: self._record.announce(self._member))

    def leave(self, shards: Iterable[str]) -> None:
        for shard in shards:
            self.release(shard)
        self._line.call(lambda: self._record.members.pop(self._member, None))

    def lease(self, shard: str) -> tuple[int, bool]:
        return self._line.call(lambda: self._record.lease(shard, self._member))

    def renew(self, shards: Sequence[str]) -> dict[str, int]:
        answers = self._line.call(lambda: [self._record.lease(shard, self._member) for shard in shards])
        return {shard: 0 if new else epoch for shard, (epoch, new) in zip(shards, answers, strict=True)}

    def release(self, shard: str) -> None:
        self._line.call(lambda: self._record.release(shard, self._member))

    def history(self) -> str:
        """The played store forgets nothing."""
        return "simulated"

    def held(self) -> Hold | None:
        return self._line.call(lambda: self._record.hold)

    def load(self, shard: str) -> Loaded:
        return self._line.call(lambda: self._loaded(shard))

    def _loaded(self, shard: str) -> Loaded:
        shelf = self._record.shelves[shard]
        return Loaded(
            shelf.encoded(),
            {name: encode(order) for name, order in shelf.outbox.items()},
            dict(shelf.cursors),
            self.history(),
        )

    def read(
        self, cursors: Mapping[tuple[str, Source], str], admission: str | None, block_ms: int
    ) -> tuple[dict[tuple[str, Source], list[tuple[str, bytes]]], list[tuple[str, bytes]]]:
        record = self._record
        return self._line.call(
            lambda: (record.read(cursors), record.read_admission(admission) if admission is not None else [])
        )

    def step(self, shard: str, epoch: int, batch: Batch) -> None:
        self.steps([(shard, epoch, batch)])

    def steps(self, steps: Sequence[Step]) -> frozenset[str]:
        """One by one: a process may die, freeze or be cut off between the steps of one round trip."""
        refused = ""
        begun = set()
        for shard, epoch, batch in steps:
            said = self._line.call(lambda s=shard, e=epoch, b=batch: self._record.step(s, e, b))  # type: ignore[misc]
            if said.startswith("BEGUN "):
                begun.add(said.removeprefix("BEGUN "))
            elif said != "OK":
                refused = refused or f"Shard {shard} refused a step of epoch {epoch}: {said}."
        if refused:
            raise Refused(refused)
        return frozenset(begun)

    def begun(self, effects: Sequence[Effect]) -> list[bool]:
        if not effects:
            return []
        return self._line.call(lambda: [effect.id in self._record.owners for effect in effects])

    def tell(self, effect: Effect) -> None:
        self._line.call(lambda: self._record.tell(effect))

    def ask_admission(self, raws: Sequence[bytes]) -> None:
        for raw in raws:
            self._line.call(lambda r=raw: self._record.ask(r))  # type: ignore[misc]

    def grant(self, events: Sequence[Envelope]) -> None:
        for event in events:
            self._line.call(lambda e=event: self._record.put(e))  # type: ignore[misc]

    def load_admission(self) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, str], str]:
        desk = self._record.admission
        return self._line.call(lambda: (dict(desk.waiting), dict(desk.grants), dict(desk.pulls), desk.cursor))

    def step_admission(self, epoch: int, operations: Sequence[str | bytes]) -> None:
        if not self._line.call(lambda: self._record.step_admission(epoch, operations)):
            raise Refused(f"Admission refused a step of epoch {epoch}.")
