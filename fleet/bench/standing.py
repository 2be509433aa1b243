"""Live attempts that exist only in the ledger, and the words of their agents: what a supervisor has to deal with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fleet.adapters import keys
from fleet.adapters.acl import Role
from fleet.adapters.archive_store import ArchiveStore
from fleet.adapters.redis_client import FleetRedis
from fleet.adapters.shard_store import ShardStore
from fleet.bench.noop import processes
from fleet.bench.rooms import Bench, home
from fleet.core.archive import sealed_upto
from fleet.core.budget import Cost
from fleet.core.codec import encode_event
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import InternalError
from fleet.core.events import (
    AgentStarted,
    AttemptStarted,
    Envelope,
    EventData,
    FilesTouched,
    ModelAsked,
    SlotAsked,
    SlotGranted,
    Source,
    StateChanged,
    TicketAccepted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    WorkspaceReady,
)
from fleet.core.outbox import Outstanding
from fleet.core.states import Reason, State
from fleet.core.step import Batch
from fleet.core.ticket import Ticket, all_shards, branch_name, shard_of, text_hash, ticket_id
from fleet.local.client import Client
from fleet.local.services import supervisor
from fleet.local.wiring import Wiring
from supervisor.fold import fold_all

REPO = "bench/supervisor"
MODEL = "claude-sonnet-5"
_PART = 2000


def ticket(number: int, at: float) -> Ticket:
    title, body = f"Ticket {number}", "The function reverses words, not characters. " * 10
    return Ticket(
        ticket_id("default", REPO, number, 1),
        "default",
        REPO,
        number,
        1,
        title,
        body,
        text_hash(title, body),
        "main",
        branch_name(number, 1, title),
        "anthropic",
        "bench",
        at,
    )


def history(one: Ticket) -> list[Envelope]:
    """What the log says of a ticket whose first attempt has just begun to work."""
    told: list[tuple[Source, int, EventData]] = [
        (Source.INTAKE, 0, TicketAccepted(one)),
        (Source.SUPERVISOR, 0, SlotAsked(1)),
        (Source.ADMISSION, 0, SlotGranted()),
        (Source.SUPERVISOR, 0, StateChanged(State.STARTING, Reason.GRANTED, attempt=1)),
        (Source.ATTEMPTS, 1, AttemptStarted("bench", 1, one.agent, "bench")),
        (Source.SUPERVISOR, 0, StateChanged(State.RUNNING, Reason.CLAIMED, attempt=1)),
        (Source.ATTEMPTS, 2, WorkspaceReady("b" * 40, 100, 0.1, 0.1)),
        (Source.ATTEMPTS, FIRST - 1, AgentStarted(one.agent, "bubblewrap")),
    ]
    return [Envelope(one.tenant, one.id, 1, seq, one.accepted_at, data, source) for source, seq, data in told]


# The first number that is free after ``history``.
FIRST = 4


def stand(store: ShardStore, client: FleetRedis, tickets: Sequence[Ticket]) -> None:
    """Writes the tickets, as the owner of all shards would have, and gives the shards back."""
    for shard in all_shards():
        epoch, _ = store.lease(shard)
        if not epoch:
            raise InternalError(f"Somebody else owns {shard} of a home that was just made.")
        mine = [one for one in tickets if shard_of(one.id) == shard]
        for start in range(0, len(mine), _PART):
            store.step(shard, epoch, _batch(mine[start : start + _PART]))
        store.release(shard)
        for one in mine:
            client.hset(keys.of(shard, "begun", "agents"), Effect(EffectKind.START_ATTEMPT, one.id, 1).id, "bench")


def _batch(tickets: Sequence[Ticket]) -> Batch:
    batch = Batch()
    for one in tickets:
        events = history(one)
        view = fold_all(events)
        if view is None or view.state is not State.RUNNING:
            raise InternalError("The history of a running ticket does not lead there.")
        batch.views[one.id] = (0, view)
        batch.log += events
        batch.orders.append(Outstanding(Effect(EffectKind.START_ATTEMPT, one.id, 1), one.accepted_at))
    return batch


def words(one: Ticket, first: int, count: int) -> Iterator[Envelope]:
    """``count`` events of an agent at work, from number ``first`` on: it asks a model, calls a tool, sees a result."""
    for seq in range(first, first + count):
        data = _TURN[seq % len(_TURN)](seq)
        yield Envelope(one.tenant, one.id, 1, seq, one.accepted_at + seq, data, Source.ATTEMPTS)


def _asked(_: int) -> EventData:
    return ModelAsked(MODEL)


def _finished(seq: int) -> EventData:
    return TurnFinished(seq, Cost(0.004, 1200, 300, 1), MODEL)


def _called(seq: int) -> EventData:
    return ToolStarted(f"call-{seq}", "run_command", f"pytest -q tests/test_words.py -k case_{seq}")


def _answered(seq: int) -> EventData:
    return ToolFinished(f"call-{seq}", f"{seq:064x}", 0, 120, "1 passed in 0.10s")


def _touched(_: int) -> EventData:
    return FilesTouched(2, ("src/words.py", "tests/test_words.py"))


_TURN = (_asked, _finished, _called, _answered, _touched)


def append(client: FleetRedis, events: Sequence[Envelope], before: str = "") -> list[str]:
    """Appends to the inbound streams of the attempts, under names that begin with ``before``; answers the entries."""
    entries: list[str] = []
    for start in range(0, len(events), _PART):
        pipe = client.pipeline(transaction=False)
        for event in events[start : start + _PART]:
            pipe.xadd(before + keys.inbound(event.ticket, Source.ATTEMPTS), {"e": encode_event(event)})
        entries += [entry.decode() for entry in pipe.execute()]
    return entries


def say(client: FleetRedis, events: Sequence[Envelope], before: str = "") -> dict[str, str]:
    """Appends, and answers the last entry of each stream."""
    streams = [keys.inbound(event.ticket, Source.ATTEMPTS) for event in events]
    return dict(zip(streams, append(client, events, before), strict=True))


# --- where they stand ----------------------------------------
@dataclass(frozen=True, slots=True)
class Room:
    """A home in which only the store runs. ``redis``: as its administrator."""

    wiring: Wiring
    redis: FleetRedis
    tickets: tuple[Ticket, ...]


@contextmanager
def room(bench: Bench, tickets: int, **settings: str) -> Iterator[Room]:
    """``tickets`` live attempts stand in its ledger."""
    with home(bench, **settings) as made:
        made.make()
        wiring = Client(made, bench.say).wiring
        wiring.open_store()
        redis = wiring.client(Role.ADMIN)
        store = ShardStore(redis, "bench")
        store.open(wiring.ids.hex(16))
        live = tuple(ticket(number, bench.clock.now()) for number in range(1, tickets + 1))
        stand(store, redis, live)
        yield Room(wiring, redis, live)
        redis.close()


@contextmanager
def supervisors(bench: Bench, place: Room, count: int = 1) -> Iterator[tuple[int, ...]]:
    """Their pids, the owner of everything first: the second starts when the first owns all."""
    logs = place.wiring.layout.logs
    with processes({"supervisor": lambda: supervisor(place.wiring)}, logs) as first:
        bench.until(lambda: len(owners(place.redis)) == ENTITIES, "no supervisor owns the shards")
        if count == 1:
            yield tuple(first.values())
            return
        with processes({"supervisor-2": lambda: supervisor(place.wiring)}, logs) as second:
            yield (*first.values(), *second.values())


ENTITIES = len(all_shards()) + 1


def owners(redis: FleetRedis) -> dict[str, str]:
    names = (*all_shards(), keys.ADMISSION)
    found: Any = redis.mget([keys.of(name, "owner") for name in names])
    return {name: raw.decode() for name, raw in zip(names, found, strict=True) if raw}


def logged(place: Room) -> int:
    """Events in the logs of its tickets: in the ledger, and in segments that it let go of meanwhile."""
    archive = ArchiveStore(place.redis)
    while True:
        before, pipe = _sealed(archive), place.redis.pipeline(transaction=False)
        for one in place.tickets:
            pipe.xlen(keys.log(one.id))
        there: int = sum(pipe.execute())
        # What is sealed between the two looks would count in both of them, or in neither.
        if before == _sealed(archive):
            return there + before


def _sealed(archive: ArchiveStore) -> int:
    return sum(sealed_upto(segments)[0] for shard in all_shards() for segments in archive.sealed(shard).values())
