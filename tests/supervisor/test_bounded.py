"""The ledger stays as large as what lives in it: thousands of short tickets, and nothing but a line of each remains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fleet.adapters import keys
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.redis_client import load_lua
from fleet.core.effects import BEGUN_BY, Effect, EffectKind
from fleet.core.errors import FleetError
from fleet.core.events import (
    AttemptStarted,
    AttemptStopped,
    GatesFinished,
    Published,
    PullRequestClosed,
    Source,
    StatusPosted,
)
from fleet.core.ticket import all_shards, shard_of
from supervisor.admission import Caps
from supervisor.service import Supervisor
from tests.supervisor.archive_room import DAY
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.players import CHANGE
from tests.support.tickets import ticket

TOGETHER = 50
HEAD, BASE = "h" * 40, "b" * 40
# Role of the worker, by what it begins: the account that may.
_ACCOUNTS = {"agents": "attempt", "gates": "gates", "publisher": "publisher"}


class Crowd:
    """Tickets in crowds, each from its acceptance to its merge; a month goes by after each crowd."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        caps = Caps(TOGETHER, TOGETHER, TOGETHER, TOGETHER)
        archivist = world.archivist(FolderArtifacts(folder))
        self.supervisor: Supervisor = world.make(caps=caps, archivist=archivist)
        # Without waiting for the disk at each claim, which would make thousands of them take minutes.
        script = load_lua("begin")
        self.begin = {role: world.clients[account].register_script(script) for role, account in _ACCOUNTS.items()}

    def live(self, numbers: Sequence[int]) -> None:
        crowd = [ticket(number) for number in numbers]
        for one in crowd:
            self.world.players.accept(one)
        for _ in range(5):
            self.world.turns(self.supervisor, 3)
            woken, self.world.players.woken = self.world.players.woken, []
            for effect in woken:
                self.act(effect)
        for one in crowd:
            self.world.players.say("intake", Source.INTAKE, one.id, 0, PullRequestClosed(True, "ada"))
        self.world.turns(self.supervisor, 3)
        for one in crowd:
            self.world.players.say("publisher", Source.PUBLISHER, one.id, 1, StatusPosted(1000))
        self.world.turns(self.supervisor, 3)
        assert all(view.state.terminal for view in self.supervisor.views())

    def act(self, effect: Effect) -> None:
        role, shard = BEGUN_BY[effect.kind], shard_of(effect.ticket)
        names = [keys.of(shard, "begun", role), keys.of(shard, "outbox"), keys.of(shard, "cancelled")]
        again = effect.kind in (EffectKind.STATUS, EffectKind.WITHDRAW)
        if not self.begin[role](keys=names, args=[effect.id, effect.ticket, "me", "1" if again else "0"]):
            return
        players, name = self.world.players, effect.ticket
        if effect.kind is EffectKind.START_ATTEMPT:
            players.attempt_says(name, 1, AttemptStarted("h", 1, "a", "i"), CHANGE, AttemptStopped("done"))
        elif effect.kind is EffectKind.RUN_GATES:
            players.say("gates", Source.GATES, name, 1, GatesFinished(effect.round, HEAD, BASE, True, "ok"))
            self.world.clients["gates"].hset(keys.gates(name), f"verdict:1:{effect.round}", "x" * 500)
        elif effect.kind is EffectKind.PUBLISH:
            players.say("publisher", Source.PUBLISHER, name, 1, Published(7, "url", HEAD, BASE))

    def month(self) -> None:
        for seconds in (70.0, 31 * DAY, 11.0):
            self.world.clock.advance(seconds)
            self.world.turns(self.supervisor, 2, 11.0)

    def size(self) -> tuple[int, int]:
        """(keys, bytes) of the ledger, without the lines that are kept for ever."""
        admin, kept = self.world.clients["admin"], {keys.of(shard, "past").encode() for shard in all_shards()}
        found = [key for key in admin.scan_iter("fleet:*", count=1000) if key not in kept]
        return len(found), sum(admin.memory_usage(key, samples=0) or 0 for key in found)


def stays_bounded(world: World, folder: Path, tickets: int = 150, most: float = 1.1) -> list[tuple[int, int]]:
    """As large after twice as many tickets as after the first ones."""
    crowd = Crowd(world, folder)
    sizes: list[tuple[int, int]] = []
    for half in (0, 1):
        for first in range(half * tickets, (half + 1) * tickets, TOGETHER):
            crowd.live(range(first + 1, first + TOGETHER + 1))
        crowd.month()
        assert not list(crowd.supervisor.views())
        sizes.append(crowd.size())
    (few, small), (many, large) = sizes
    assert many == few, f"{many - few} keys more"
    assert large <= small * most, f"{small} bytes became {large}"
    lines = sum(world.clients["admin"].hlen(keys.of(shard, "past")) for shard in all_shards())
    assert lines == 2 * tickets
    return sizes


@pytest.mark.invariant("I17")
def test_the_ledger_does_not_grow_with_the_tickets_that_were(world: World, folder: Path) -> None:
    stays_bounded(world, folder)


@pytest.mark.long
def test_the_ledger_does_not_grow_with_thousands_of_tickets(world: World, folder: Path) -> None:
    sizes = stays_bounded(world, folder, 1000)
    print(f"after 1,000 tickets {sizes[0]}, after 2,000 {sizes[1]} (keys, bytes)")


def a_day(world: World, folder: Path) -> float:
    """Ended tickets that are not forgotten yet cost a view, and one empty stream each. Answers bytes per ticket."""
    crowd, sizes = Crowd(world, folder), []
    for first in (1, 1 + 2 * TOGETHER):
        for start in (first, first + TOGETHER):
            crowd.live(range(start, start + TOGETHER))
        crowd.world.clock.advance(DAY)
        crowd.world.turns(crowd.supervisor, 2, 11.0)
        sizes.append(crowd.size()[1])
    left = [key for key in world.clients["admin"].scan_iter("fleet:*", count=1000) if b"}:gates:" in key]
    assert not left, "gate records go with the log"
    each = (sizes[1] - sizes[0]) / (2 * TOGETHER)
    assert each < 5000, f"{each:.0f} bytes for each ticket that ended"
    return each


def test_a_ticket_that_ended_costs_little_until_it_is_forgotten(world: World, folder: Path) -> None:
    a_day(world, folder)


def day(world: World, folder: Path) -> None:
    a_day(world, folder)


def short(world: World, folder: Path) -> None:
    stays_bounded(world, folder, TOGETHER)


MUTANTS = {
    "read entries go": Mutant("lua:step", "redis.call('XTRIM', p .. ':in:' .. a, 'MINID', '~', b)", "", short),
    "logs go": Mutant("lua:archive", "redis.call('UNLINK', p .. ':log:' .. a)", "", short),
    "views go": Mutant("lua:archive", "redis.call('HDEL', p .. ':view', a)", "", short),
    "versions go": Mutant("lua:archive", "redis.call('HDEL', p .. ':ver', a)", "", short),
    "segments' entries go": Mutant("lua:archive", "redis.call('HDEL', p .. ':sealed', a)", "", short),
    "begun entries go": Mutant("lua:archive", "redis.call('HDEL', p .. ':begun:' .. a, b)", "", short),
    "memory follows": Mutant("supervisor.shard:ShardKeeper.let_go", "shard.views.pop(name)", "pass", short),
    "the stream is emptied": Mutant("lua:archive", "redis.call('XTRIM', p .. ':log:' .. a, 'MINID', c)", "", day),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_something_that_stays_behind_is_noticed(
    name: str, new_world: Callable[[], World], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises((AssertionError, FleetError, pytest.fail.Exception)):
        mutant.scenario(new_world(), folder)
