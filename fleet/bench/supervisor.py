"""One supervisor process with durable state on the embedded server: how much it takes in, how soon it notices, what it
costs, and how long the shards of a killed one stay without an owner.

The supervisor and the store are the real ones, each in a process of its own. The attempts stand in the ledger, and this
process says their words.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.adapters import keys
from fleet.adapters.acl import Role
from fleet.adapters.redis_client import FleetRedis
from fleet.bench import stalls, standing
from fleet.bench.figures import Figure, Report, Target, Unit, ratios
from fleet.bench.procs import Cost, cost
from fleet.bench.rooms import Bench
from fleet.core.errors import InternalError
from fleet.core.events import Envelope, Source
from fleet.core.ticket import Ticket, all_shards

RATE, PER_TICKET, TAKE_OVER = Target(5000.0, at_least=True), Target(20_000.0), Target(5.0)
GROUP = "bench"
_ASIDE, _BARE = "bench:", "bare:"
_READ_MOST = 500


def measure(bench: Bench) -> Report:
    """Events a second beside a bare consumer, their cost as tickets get more, memory, take-over."""
    sizes = (100, 1000, 10_000) if not bench.quick else (20, 40, 80)
    rounds = [_round(bench, size) for size in sizes]
    middle = rounds[1]
    cheapest = min(rounds[0].cpu)
    # A quick round is too short for the kernel's clock of CPU time.
    growth = [min(one.cpu) / cheapest if cheapest else 1.0 for one in rounds[1:]]
    more = sizes[-1] - sizes[0]
    owner = (rounds[-1].owner - rounds[0].owner) / more
    store = (rounds[-1].store - rounds[0].store) / more
    figures = [
        Figure(f"progress events, {sizes[1]} live tickets", Unit.RATE, tuple(middle.rates), RATE, "aim 20000/s"),
        Figure("bare XREADGROUP + XACK of the same entries", Unit.RATE, tuple(middle.bare)),
        Figure("ratio", Unit.RATIO, ratios(middle.rates, middle.bare)),
        *(
            Figure(f"progress events, {size} live tickets", Unit.RATE, tuple(one.rates))
            for size, one in zip(sizes[::2], rounds[::2], strict=True)
        ),
        *(
            Figure(f"CPU of the supervisor an event, {size} tickets", Unit.MICRO, tuple(one.cpu))
            for size, one in zip(sizes, rounds, strict=True)
        ),
        *(
            Figure(f"growth from {sizes[0]} to {size} tickets", Unit.RATIO, (ratio,))
            for size, ratio in zip(sizes[1:], growth, strict=True)
        ),
        Figure("memory of the supervisor, a live ticket", Unit.KILO, (owner,), PER_TICKET),
        Figure("memory of the store, a live ticket", Unit.KILO, (store,), PER_TICKET),
        *stalls.figures(bench),
        Figure("killed -9 → the other owns all and acts", Unit.SECONDS, _take_overs(bench), TAKE_OVER),
    ]
    what = f"one supervisor process, durable state; {bench.few(_EVENTS, _FEW)} events a round"
    return Report("supervisor", what, tuple(figures))


_EVENTS, _FEW = 50_000, 400
# Events of a turn, and how many tickets speak at once where the cost of one is looked at.
_TURN, _AT_ONCE = 5, 100


@dataclass(slots=True)
class _Round:
    """``cpu``: seconds of the supervisor an event; ``owner`` and ``store`` bytes when all tickets live."""

    rates: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    owner: float = 0.0
    store: float = 0.0


# --- how much it takes in -------------------------------------------------------------------------------------------
def _round(bench: Bench, size: int) -> _Round:
    made, count = _Round(), bench.few(_EVENTS, _FEW)
    with standing.room(bench, size) as place, standing.supervisors(bench, place) as (pid,):
        made.store = float(place.redis.info("memory")["used_memory"])
        seqs = dict.fromkeys((one.id for one in place.tickets), standing.FIRST)
        _drain(bench, place, seqs, count)
        for _ in range(bench.few(3, 1)):
            seconds, bare = _drain(bench, place, seqs, count)
            made.rates.append(count / seconds)
            made.bare.append(count / bare)
            made.cpu.append(_turn_by_turn(bench, place, pid, seqs))
        made.owner = float(_cost(pid).pss)
        _nothing_is_missing(place, seqs)
    return made


def _nothing_is_missing(place: standing.Room, seqs: Mapping[str, int]) -> None:
    """Raises InternalError unless every event is in the log of its ticket and in its view."""
    ledger = place.wiring.ledger(Role.PEOPLE)
    wrong = [view.id for view in ledger.views() if view.seq != seqs[view.id] - 1]
    logged = standing.logged(place) - len(standing.history(place.tickets[0])) * len(place.tickets)
    said = sum(seqs.values()) - standing.FIRST * len(seqs)
    if wrong or logged < said:
        raise InternalError(f"Of {said} events {logged} were logged; {len(wrong)} views are wrong.")


def _cost(pid: int) -> Cost:
    found = cost(pid)
    if found is None:
        raise InternalError("The supervisor ended by itself.")
    return found


def _drain(bench: Bench, place: standing.Room, seqs: dict[str, int], count: int) -> tuple[float, float]:
    """Seconds of the supervisor and of the bare consumer for the same ``count`` entries.

    The entries are laid aside first and put in place at once, so that saying them costs neither of the two anything.
    """
    redis = place.redis
    last = standing.say(redis, _turns(place.tickets, seqs, count), _ASIDE)
    for stream in last:
        redis.copy(_ASIDE + stream, _BARE + stream)
    begun = bench.clock.monotonic()
    _put_in_place(bench, redis, last)
    return bench.clock.monotonic() - begun, _bare(bench, redis, list(last), count)


def _put_in_place(bench: Bench, redis: FleetRedis, last: Mapping[str, str]) -> None:
    """What was laid aside is said at once; returns when the supervisor has written it all."""
    pipe = redis.pipeline(transaction=True)
    for stream in last:
        pipe.rename(_ASIDE + stream, stream)
    pipe.execute()
    bench.until(lambda: _taken_in(redis, last), "the supervisor has not taken all in")


def _turn_by_turn(bench: Bench, place: standing.Room, pid: int, seqs: dict[str, int]) -> float:
    """Seconds of the supervisor's CPU an event, when each ticket that speaks says one turn and is written once.

    A backlog of few tickets has many events of each, and writes a view once for all of them; so its cost says nothing
    about what more tickets cost.
    """
    before, done, tickets = _cost(pid).cpu, 0, list(place.tickets)
    for _ in range(bench.few(40, 2)):
        part, tickets = tickets[:_AT_ONCE], tickets[_AT_ONCE:] + tickets[:_AT_ONCE]
        part = part[: len(place.tickets)]
        said = _turns(part, seqs, _TURN * len(part))
        _put_in_place(bench, place.redis, standing.say(place.redis, said, _ASIDE))
        done += len(said)
    return (_cost(pid).cpu - before) / done


def _turns(tickets: Sequence[Ticket], seqs: dict[str, int], count: int) -> list[Envelope]:
    """A turn of events from each ticket after the other, until there are ``count``."""
    said: list[Envelope] = []
    while len(said) < count:
        for one in tickets:
            more = min(_TURN, count - len(said))
            said += standing.words(one, seqs[one.id], more)
            seqs[one.id] += more
    return said


def _taken_in(redis: FleetRedis, last: Mapping[str, str]) -> bool:
    pipe = redis.pipeline(transaction=False)
    for shard in all_shards():
        pipe.hget(keys.of(shard, "cursor"), Source.ATTEMPTS.value)
    at = dict(zip(all_shards(), pipe.execute(), strict=True))
    wanted = {shard: last.get(keys.of(shard, "in", Source.ATTEMPTS.value)) for shard in all_shards()}
    return all(
        end is None or (at[shard] is not None and _order(at[shard].decode()) >= _order(end))
        for shard, end in wanted.items()
    )


def _order(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


def _bare(bench: Bench, redis: FleetRedis, streams: Sequence[str], count: int) -> float:
    """Seconds to read and acknowledge the same entries and do nothing with them."""
    names = [_BARE + stream for stream in streams]
    for name in names:
        redis.xgroup_create(name, GROUP, "0")
    begun, seen = bench.clock.monotonic(), 0
    while seen < count:
        found: Any = redis.xreadgroup(GROUP, "one", dict.fromkeys(names, ">"), count=_READ_MOST)
        pipe = redis.pipeline(transaction=False)
        for name, entries in found:
            pipe.xack(name, GROUP, *(entry for entry, _ in entries))
            seen += len(entries)
        pipe.execute()
    seconds = bench.clock.monotonic() - begun
    redis.delete(*names)
    return seconds


# --- take-over ------------------------------------------------------------------------------------------------------
def _take_overs(bench: Bench) -> tuple[float, ...]:
    """The owner of all shards is killed while each shard is told something; until the other one has written it."""
    taken: list[float] = []
    with standing.room(bench, 200) as place:
        seqs = dict.fromkeys((one.id for one in place.tickets), standing.FIRST)
        for _ in range(bench.few(5, 1)):
            with standing.supervisors(bench, place, 2) as (owner, _):
                bench.until(lambda: len(set(standing.owners(place.redis).values())) == 2, "the second one has no share")
                os.kill(owner, signal.SIGKILL)
                begun = bench.clock.monotonic()
                last = standing.say(place.redis, _turns(place.tickets, seqs, 1000))
                bench.until(lambda last=last: _taken_in(place.redis, last), "nobody took over")  # type: ignore[misc]
                bench.until(lambda: len(standing.owners(place.redis)) == standing.ENTITIES, "an entity has no owner")
                taken.append(bench.clock.monotonic() - begun)
    return tuple(taken)
