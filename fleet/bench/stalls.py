"""How soon a supervisor notices, with a thousand live attempts, that one of them fell silent.

Half of the attempts freeze: nothing more is heard. In the other half the guard's heart beats on and the agent says no
more. Both ends are read off the store's clock, which numbers the entries: the last sign, and the decision in the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import quantiles

from fleet.adapters import keys
from fleet.bench import standing
from fleet.bench.figures import Figure, Target, Unit
from fleet.bench.rooms import Bench
from fleet.core.codec import decode_event
from fleet.core.events import Envelope, EventData, Heartbeat, Note, Nudged, Source, StateChanged
from fleet.core.states import Reason

WITHIN = Target(1.0)
# Short, so that the measure is; which they are makes no difference to how late a supervisor is.
LOST_S, SILENCE_S = 6.0, 8.0
_SETTINGS = {"FLEET_SUPERVISION_LOST_AFTER": str(LOST_S), "FLEET_SUPERVISION_SILENCE": str(SILENCE_S)}
_WORD_S, _BEAT_S, _LONGEST_S = 3.0, 2.0, 60.0


def figures(bench: Bench) -> tuple[Figure, ...]:
    count, talking, spread = bench.few(1000, 20), bench.few(10, 2), bench.few(10, 1)
    with standing.room(bench, count, **_SETTINGS) as place, standing.supervisors(bench, place):
        player = _Player(bench, place, talking, spread)
        bench.until(player.play, "the stalls are not noticed", talking + spread + SILENCE_S + _LONGEST_S)
    late = sorted(player.late.values())
    end = quantiles(late, n=100)[-1]
    return (
        Figure(f"{len(late)} attempts fall silent: noticed beyond its threshold", Unit.SECONDS, tuple(late)),
        Figure("the same, 99th percentile", Unit.SECONDS, (end,), WITHIN),
    )


class _Player:
    """Says what the attempts say. ``late``: ticket → seconds beyond its threshold until its stall was written down."""

    def __init__(self, bench: Bench, place: standing.Room, talking: int, spread: int) -> None:
        self._bench = bench
        self._redis = place.redis
        self._tickets = {one.id: one for one in place.tickets}
        self._frozen = {one.id for one in place.tickets[::2]}
        now, count = bench.clock.monotonic(), len(place.tickets)
        # Each has its own moment, so that neither the words nor the silences come all at once.
        self._ends = {one.id: now + talking + spread * at / count for at, one in enumerate(place.tickets)}
        self._words = {one.id: now + _WORD_S * at / count for at, one in enumerate(place.tickets)}
        self._beats = {one.id: now + _BEAT_S * at / count for at, one in enumerate(place.tickets)}
        self._seqs = dict.fromkeys(self._tickets, standing.FIRST)
        # Entries of the store: of the last word, and of the last sign of life.
        self._word: dict[str, str] = {}
        self._sign: dict[str, str] = {}
        self.late: dict[str, float] = {}

    def play(self) -> bool:
        """One look at the clock; True when every stall was noticed."""
        now = self._bench.clock.monotonic()
        said: list[Envelope] = []
        for name, due in self._words.items():
            if due <= now < self._ends[name]:
                said.append(self._event(name, Note("still at it"), self._seqs[name]))
                self._seqs[name] += 1
                self._words[name] = due + _WORD_S
        for name, due in self._beats.items():
            if due <= now and (now < self._ends[name] or name not in self._frozen):
                said.append(self._event(name, Heartbeat(self._seqs[name] - 1), 0))
                self._beats[name] = due + _BEAT_S
        self._say(said)
        self._look([name for name, end in self._ends.items() if end < now and name not in self.late])
        return len(self.late) == len(self._tickets)

    def _event(self, name: str, data: EventData, seq: int) -> Envelope:
        one = self._tickets[name]
        return Envelope(one.tenant, one.id, 1, seq, self._bench.clock.now(), data, Source.ATTEMPTS)

    def _say(self, events: list[Envelope]) -> None:
        for event, entry in zip(events, standing.append(self._redis, events), strict=True):
            self._sign[event.ticket] = entry
            if event.seq:
                self._word[event.ticket] = entry

    def _look(self, names: Iterable[str]) -> None:
        """Looks for the decision about each of these at the end of its log, newest first."""
        wanted = list(names)
        pipe = self._redis.pipeline(transaction=False)
        for name in wanted:
            pipe.xrevrange(keys.log(name), count=10)
        for name, rows in zip(wanted, pipe.execute(), strict=True):
            frozen = name in self._frozen
            threshold, since = (LOST_S, self._sign) if frozen else (SILENCE_S, self._word)
            found = noticed(frozen, [(entry.decode(), decode_event(fields[b"e"])) for entry, fields in rows])
            if found:
                self.late[name] = moment(found) - moment(since[name]) - threshold


def noticed(frozen: bool, rows: Iterable[tuple[str, Envelope]]) -> str:
    """The entry with which the stall was written down, the first of it; empty when it was not."""
    found = ""
    for entry, event in rows:
        match event.data:
            case Nudged(cause="silence") if not frozen:
                found = entry
            case StateChanged(reason=Reason.LOST) if frozen:
                found = entry
            case _:
                continue
    return found


def moment(entry: str) -> float:
    """Seconds on the store's clock."""
    return int(entry.partition("-")[0]) / 1000
