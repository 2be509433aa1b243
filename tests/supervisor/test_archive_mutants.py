"""Protections of sealing and forgetting switched off: a scenario that passes with them fails without."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.core.errors import FleetError
from tests.supervisor import test_archive as seals
from tests.supervisor import test_forgetting as gone
from tests.supervisor.world import World
from tests.support.mutants import Mutant

MUTANTS = {
    "stored first": Mutant(
        "supervisor.archive:Archivist._seal", "self._artifacts.put(name, data)", "pass", seals.sealed_when_it_ended
    ),
    "settles first": Mutant(
        "supervisor.archive:duty", "over >= keeping.settle", "over >= 0", seals.sealed_when_it_ended
    ),
    "orders": Mutant("supervisor.archive:duty", "and not orders", "", gone.live_ones_stay),
    "only what ended": Mutant("supervisor.archive:duty", "view.state.terminal and", "", gone.live_ones_stay),
    "exactly what is sealed goes": Mutant("lua:archive", "'MINID', c)", "'MAXLEN', 0)", seals.long_log),
    "the stream's last number stays": Mutant(
        "lua:archive",
        "redis.call('XTRIM', p .. ':log:' .. a, 'MINID', c)",
        "redis.call('UNLINK', p .. ':log:' .. a)",
        seals.what_comes_later_follows,
    ),
    "epoch": Mutant(
        "lua:archive", "if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 'EPOCH' end", "", seals.replaced_owner
    ),
    "gone.forgotten is known": Mutant(
        "supervisor.shard:ShardKeeper._accept",
        " and event.ticket not in self.shard.past",
        "",
        gone.late_words_change_nothing,
    ),
    "past is written": Mutant("lua:archive", "redis.call('HSET', p .. ':past', a, c)", "", gone.the_next_generation),
    "what the ledger knows stays": Mutant(
        "fleet.local.cleaning:unneeded", " and name not in known", "", gone.only_forgotten_logs_are_removed
    ),
    "past counts": Mutant(
        "fleet.intake.service:IntakeService._known", " or self._ledger.past(ticket)", "", gone.the_next_generation
    ),
    "the label that was answered": Mutant(
        "fleet.intake.decide:decide",
        "if _answered(request, view.trigger, view.at):",
        "if False:",
        gone.the_next_generation,
    ),
    "begun entries go": Mutant("lua:archive", "redis.call('HDEL', p .. ':begun:' .. a, b)", "", gone.forgotten),
    "records go": Mutant("lua:archive", "redis.call('UNLINK', p .. ':' .. a)", "", gone.forgotten),
    "spend goes": Mutant(
        "fleet.adapters.archive_store:ArchiveStore.forget",
        "self._ask(self._redis.unlink, *(keys.spent(ticket) for ticket in tickets))",
        "pass",
        gone.forgotten,
    ),
    "segments are read": Mutant(
        "fleet.adapters.segments:Segments.joined", "return [*rows, *stream]", "return list(stream)", seals.long_log
    ),
    "nothing is read twice": Mutant(
        "fleet.adapters.segments:Segments.joined",
        "if start < position(row[0]) < before",
        "",
        seals.read_from_any_place,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(
    name: str, new_world: Callable[[], World], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    assert len(inspect.signature(mutant.scenario).parameters) == 2
    with pytest.raises((AssertionError, FleetError, pytest.fail.Exception)):
        mutant.scenario(new_world(), folder)
