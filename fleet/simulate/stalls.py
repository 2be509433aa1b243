"""Thousands of live attempts on the virtual clock, and each of them stalls: how late is it noticed?

The supervisor is the real one, with the thresholds that an operator finds. What it takes in and writes costs it time,
as much as was measured (docs/bench.md), so that it can be late; the wall clock jumps meanwhile, which must not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import InternalError
from fleet.core.events import (
    AgentStarted,
    AttemptStarted,
    Envelope,
    EventData,
    Heartbeat,
    ModelAsked,
    Note,
    Nudged,
    SlotAsked,
    SlotGranted,
    Source,
    StateChanged,
    TicketAccepted,
    ToolFinished,
    ToolStarted,
)
from fleet.core.frozen import replace
from fleet.core.outbox import Outstanding
from fleet.core.states import Reason, State
from fleet.core.step import Batch, Step
from fleet.core.ticket import Ticket, shard_of
from fleet.simulate.chance import Chance, Jitter
from fleet.simulate.checks import Broken
from fleet.simulate.fates import make_ticket
from fleet.simulate.faults import NONE, Faults
from fleet.simulate.lines import Line, LineShards, Weather
from fleet.simulate.record import Protections, Record
from fleet.simulate.timeline import Timeline
from supervisor.admission import Caps
from supervisor.fold import fold_all
from supervisor.policy import Policy
from supervisor.service import BLOCK_MS, Supervisor

WITHIN_S = 1.0
# An entry read or an event written, and a pass: a fifth more than one supervisor needed with 10,000 live tickets.
_ENTRY_S, _PASS_S = 60e-6, 1e-3
_BEAT_S, _WORD_S, _GRID_S = 5.0, 15.0, 0.05
# For so long each attempt is well, and over so long their ends are spread.
_WELL_S, _SPREAD_S = 40.0, 60.0
_ROUNDING_S = 1e-6
_JUMP_EVERY_S, _JUMP_S = 50.0, 86_400.0
_FIRST = 3

# How an attempt stalls → the threshold after its last sign, word or new result.
Thresholds = Mapping[str, float]


def thresholds(policy: Policy) -> Thresholds:
    """``frozen``: nothing more is heard. In all others the guard's heart beats on: the agent is ``silent``, or waits
    for a model (``thinking``), or talks and finds nothing new (``idle``), or makes one call again and again (``loop``).
    """
    return {
        "frozen": policy.lost_after,
        "silent": policy.silence,
        "thinking": policy.model_silence,
        "idle": policy.no_progress,
        "loop": 0.0,
    }


@dataclass(slots=True)
class Noticed:
    """``late``: by how they stalled, seconds beyond the threshold, sorted. ``virtual``: seconds that passed."""

    late: dict[str, list[float]] = field(default_factory=dict)
    entries: int = 0
    virtual: float = 0.0

    def end(self, how: str = "") -> float:
        """The 99th percentile."""
        found = self.late[how] if how else [one for each in self.late.values() for one in each]
        return quantiles(found, n=100, method="inclusive")[-1]

    def row(self) -> dict[str, object]:
        late = {how: {"count": len(found), "p99": self.end(how), "most": found[-1]} for how, found in self.late.items()}
        count = sum(len(found) for found in self.late.values())
        return {
            "stalls": count,
            "p99": self.end(),
            "late": late,
            "entries": self.entries,
            "virtual_seconds": self.virtual,
        }

    def text(self) -> str:
        count = sum(len(found) for found in self.late.values())
        lines = [f"{count} live attempts stalled in {self.virtual:.0f} virtual seconds; {self.entries} entries read"]
        lines += [
            f"  {how:<10}{len(found):>6}  noticed beyond its threshold: 99 % within {self.end(how):.3f} s, "
            f"the last {found[-1]:.3f} s"
            for how, found in self.late.items()
        ]
        return "\n".join([*lines, f"  all       {count:>6}  99 % within {self.end():.3f} s (target {WITHIN_S:.3f} s)"])


def play(count: int, seed: int = 1, policy: Policy | None = None) -> Noticed:
    """Raises Broken (I15) for a stall that is noticed too early or never, and when too many are noticed too late."""
    hall = _Hall(count, seed, policy or Policy())
    noticed = hall.play()
    if noticed.end() > WITHIN_S:
        raise Broken("I15", "", f"99 % of the stalls were noticed within {noticed.end():.2f} s of their thresholds")
    return noticed


class _Busy(LineShards):
    """A store that has its answers at once, and a supervisor that takes its time over them."""

    def __init__(self, line: Line, time: Timeline) -> None:
        super().__init__(line, "one")
        self._time = time
        self.entries = 0

    def read(
        self, cursors: Mapping[tuple[str, Source], str], admission: str | None, block_ms: int
    ) -> tuple[dict[tuple[str, Source], list[tuple[str, bytes]]], list[tuple[str, bytes]]]:
        time = self._time
        until = time.monotonic() + block_ms / 1000
        found, asked = super().read(cursors, admission, 0)
        while not found and not asked and time.monotonic() < until:
            time.run(min(until, time.upcoming()))
            found, asked = super().read(cursors, admission, 0)
        count = sum(map(len, found.values())) + len(asked)
        self.entries += count
        time.sleep(_PASS_S + count * _ENTRY_S)
        return found, asked

    def steps(self, steps: Sequence[Step]) -> frozenset[str]:
        self._time.sleep(sum(len(batch.log) for _, _, batch in steps) * _ENTRY_S)
        return super().steps(steps)


class _Nobody:
    """Implements ``fleet.core.ports.Waker``: what follows the stalls is not played."""

    def wake(self, effect: Effect) -> None:
        pass


@dataclass(slots=True)
class _Attempt:
    """``since``: when it gave the sign from which its threshold counts; ``ends``: when it stalls."""

    ticket: Ticket
    how: str
    ends: float
    seq: int
    since: float = 0.0
    noticed: bool = False


class _Hall:
    def __init__(self, count: int, seed: int, policy: Policy) -> None:
        self._time = Timeline()
        self._record = Record(self._time.monotonic, Protections())
        self._limits = thresholds(policy)
        chance = Chance(seed)
        self._weather = Weather(self._time, chance, Faults(chance, NONE), self._record)
        hows = tuple(self._limits)
        self._attempts: dict[str, _Attempt] = {}
        for number in range(1, count + 1):
            one = replace(make_ticket(chance, number, 0.0), agent="anthropic", route=())
            ends = _on_grid(_WELL_S + chance.between(f"end of {number}", 0.0, _SPREAD_S))
            self._attempts[one.id] = _Attempt(one, hows[number % len(hows)], ends, _FIRST)
        self._shards = _Busy(Line(self._weather, "supervisor", "store"), self._time)
        dice = Jitter(chance, "supervisor")
        self._supervisor = Supervisor(self._shards, _Nobody(), self._time, dice, policy, Caps())
        self._late: dict[str, list[float]] = {how: [] for how in hows}

    def play(self) -> Noticed:
        self._stand()
        self._record.stepped = self._look
        for number, one in enumerate(self._attempts.values()):
            self._at(_WORD_S * number / len(self._attempts), lambda one=one: self._word(one))  # type: ignore[misc]
            self._at(_BEAT_S * number / len(self._attempts), lambda one=one: self._beat(one))  # type: ignore[misc]
            self._at(one.ends, lambda one=one: self._stall(one))  # type: ignore[misc]
        self._time.after(_JUMP_EVERY_S, self._jump)
        patience = _WELL_S + _SPREAD_S + max(self._limits.values()) + 60.0
        while left := len(self._attempts) - sum(map(len, self._late.values())):
            self._supervisor.once(BLOCK_MS)
            if self._time.monotonic() > patience:
                stuck = next(one for one in self._attempts.values() if not one.noticed)
                raise Broken("I15", stuck.ticket.id, f"{left} stalls are not noticed; this attempt is {stuck.how}")
        late = {how: sorted(found) for how, found in self._late.items()}
        return Noticed(late, self._shards.entries, self._time.monotonic())

    # --- what attempts say -----------------------------------------------------------------------------------------
    def _at(self, moment: float, call: Callable[[], None]) -> None:
        """On a grid, so that entries come in handfuls and a pass has something to do."""
        self._time.after(_on_grid(moment) - self._time.monotonic(), call)

    def _over(self, one: _Attempt) -> bool:
        return self._time.monotonic() >= one.ends - _ROUNDING_S

    def _say(self, one: _Attempt, *words: EventData) -> None:
        for data in words:
            self._record.put(Envelope("default", one.ticket.id, 1, one.seq, self._time.now(), data, Source.ATTEMPTS))
            one.seq += 1

    def _word(self, one: _Attempt) -> None:
        """Each call has a new result while the attempt is well."""
        stalls = self._over(one)
        if one.noticed or (stalls and one.how != "idle"):
            return
        if stalls:
            self._say(one, Note("still at it"))
        else:
            self._say(one, ToolStarted(f"c{one.seq}", "shell", "look"), ToolFinished(f"c{one.seq}", f"{one.seq}", 0, 1))
            one.since = self._time.monotonic()
        self._at(self._time.monotonic() + _WORD_S, lambda: self._word(one))

    def _beat(self, one: _Attempt) -> None:
        if one.noticed or (one.how == "frozen" and self._over(one)):
            return
        last = Heartbeat(one.seq - 1)
        self._record.put(Envelope("default", one.ticket.id, 1, 0, self._time.now(), last, Source.ATTEMPTS))
        if one.how == "frozen":
            one.since = self._time.monotonic()
        self._at(self._time.monotonic() + _BEAT_S, lambda: self._beat(one))

    def _stall(self, one: _Attempt) -> None:
        """What the attempt does last."""
        if one.how == "thinking":
            self._say(one, ModelAsked("m"))
        elif one.how == "loop":
            for _ in range(4):
                self._say(one, ToolStarted("again", "shell", "ls"), ToolFinished("again", "same", 0, 1))
        if one.how in ("thinking", "loop"):
            one.since = self._time.monotonic()

    def _jump(self) -> None:
        self._weather.jump(f"jump at {self._time.monotonic():.0f}", _JUMP_S)
        self._time.after(_JUMP_EVERY_S, self._jump)

    # --- what is written -------------------------------------------------------------------------------------------
    def _stand(self) -> None:
        """The attempts are at work, as an earlier owner left them."""
        for one in self._attempts.values():
            events = _history(one.ticket)
            view = fold_all(events)
            if view is None or view.state is not State.RUNNING or view.seq != _FIRST - 1:
                raise InternalError("The history of a running ticket does not lead there.")
            shelf, start = self._record.shelves[shard_of(view.id)], Effect(EffectKind.START_ATTEMPT, view.id, 1)
            shelf.views[view.id] = view
            shelf.outbox[start.id] = Outstanding(start, one.ticket.accepted_at)
            self._record.owners[start.id] = "guard"

    def _look(self, batch: Batch) -> None:
        now = self._time.monotonic()
        for event in batch.log:
            data, one = event.data, self._attempts[event.ticket]
            lost = isinstance(data, StateChanged) and data.reason is Reason.LOST
            if one.noticed or not (lost or isinstance(data, Nudged)):
                continue
            one.noticed = True
            late = now - one.since - self._limits[one.how]
            if min(now - one.ends, late) < -_ROUNDING_S or lost is not (one.how == "frozen"):
                raise Broken("I15", event.ticket, f"an attempt that is {one.how} was noticed {late:.2f} s late: {data}")
            self._late[one.how].append(late)


def _on_grid(moment: float) -> float:
    return round(moment / _GRID_S) * _GRID_S


def _history(one: Ticket) -> list[Envelope]:
    """What the log says of a ticket whose first attempt has just begun to work."""
    told: list[tuple[Source, int, EventData]] = [
        (Source.INTAKE, 0, TicketAccepted(one)),
        (Source.SUPERVISOR, 0, SlotAsked(1)),
        (Source.ADMISSION, 0, SlotGranted()),
        (Source.SUPERVISOR, 0, StateChanged(State.STARTING, Reason.GRANTED, attempt=1)),
        (Source.ATTEMPTS, 1, AttemptStarted("host", 1, one.agent, "simulated")),
        (Source.SUPERVISOR, 0, StateChanged(State.RUNNING, Reason.CLAIMED, attempt=1)),
        (Source.ATTEMPTS, 2, AgentStarted(one.agent, "bubblewrap")),
    ]
    return [Envelope(one.tenant, one.id, 1, seq, one.accepted_at, data, source) for source, seq, data in told]
