"""The shard under anything, and an archivist that seals and forgets meanwhile, and dies at it.

The archivist is the real one; the ledger's part of it is a few dictionaries with the meaning of lua/archive.lua.
Whatever was sealed when and by whom: segments and stream together are the log, and fold to the view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from fleet.adapters.segments import Segments
from fleet.core.archive import Row, Segment, sealed_upto
from fleet.core.codec import decode_event, encode, encode_event
from fleet.core.effects import EffectKind
from fleet.core.errors import FleetError
from fleet.core.events import CancelRequested, Source, StatusPosted, Withdrawn
from fleet.core.past import Past
from fleet.core.step import Batch, Refused
from supervisor.archive import Archivist, Keeping
from supervisor.fold import fold_all
from supervisor.liveness import WORKS
from supervisor.shard import ShardKeeper
from tests.supervisor.anything import SHARD, TICKETS, Store, which
from tests.supervisor.test_machine import OneShard
from tests.support.clock import VirtualClock
from tests.support.mutants import Mutant

KEEPING = Keeping(settle=60.0, keep=5_000.0, live_most=12, live_kept=3, segment_most=5)


REACHED: Counter[tuple[str, bool]] = Counter()


class Killed(Exception):
    """The owner dies here."""


class Shelf:
    """Implements ``Archive`` and ``Artifacts`` beside a played store. ``dies``: at the next ``seal`` or ``forget``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.segments: dict[str, tuple[Segment, ...]] = {}
        self.gone: dict[str, int] = {}
        self.old: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.dies = False

    def sealed(self, shard: str) -> Mapping[str, tuple[Segment, ...]]:
        return dict(self.segments)

    def past(self, shard: str) -> set[str]:
        return set(self.old)

    def rows(self, ticket: str, after: str, most: int) -> list[Row]:
        first = max(self.gone.get(ticket, 0), int(after.split("-", maxsplit=1)[0]))
        return [
            (f"{number}-0", encode_event(event))
            for number, event in enumerate(self._store.log[ticket], 1)
            if number > first
        ][:most]

    def seal(self, shard: str, epoch: int, ticket: str, segments: Sequence[Segment], gone: Sequence[str] = ()) -> None:
        self._may(epoch)
        self.segments[ticket] = tuple(segments)
        self.gone[ticket] = sealed_upto(segments)[0]

    def forget(self, shard: str, epoch: int, tickets: Mapping[str, tuple[int, Past]]) -> None:
        self._may(epoch)
        for name, (version, _) in tickets.items():
            if self._store.views[name].version != version:
                raise Refused("another version")
            assert self._store.views[name].state.terminal
        for name in tickets:
            del self._store.views[name], self._store.log[name]
            self.segments.pop(name, None)
            self._store.cancelled.discard(name)
            self.old.add(name)

    def _may(self, epoch: int) -> None:
        if self.dies:
            raise Killed
        if epoch != self._store.epoch:
            raise Refused("another owner")

    def put(self, name: str, data: bytes) -> str:
        assert self.files.get(name, data) == data, "one name, one content"
        self.files[name] = data
        return name

    def get(self, name: str) -> bytes | None:
        return self.files.get(name)

    def put_file(self, name: str, path: Path) -> str:
        return self.put(name, path.read_bytes())

    def path(self, name: str) -> Path | None:
        return None


class Sealed(OneShard):
    """``archivist``: of the owner that is. ``earlier``: of an owner that was replaced and does not know it."""

    archivist: Archivist
    minded: ShardKeeper

    def take_over(self) -> None:
        super().take_over()
        if not hasattr(self, "shelf"):
            self.shelf = Shelf(self.store)
            self.earlier: list[tuple[Archivist, ShardKeeper]] = []
        else:
            self.earlier = [(self.archivist, self.minded)]
        self.archivist = Archivist(self.shelf, self.shelf, VirtualClock(), KEEPING)
        self.archivist.opened(self.keeper.shard)
        self.minded = self.keeper

    @rule(seconds=st.sampled_from([11.0, 61.0, 61.0, 6000.0]), dies=st.booleans())
    def the_archivist_looks_around(self, seconds: float, dies: bool) -> None:
        self.time_passes(seconds)
        self.shelf.dies = dies
        try:
            self.archivist.turn({SHARD: self.keeper}, self.wall, self.mono)
        except Killed:
            self.shelf.dies = False
            self.take_over()
        self.shelf.dies = False

    @rule()
    def one_that_was_replaced_looks_around(self) -> None:
        for archivist, keeper in self.earlier:
            before = dict(self.shelf.segments), dict(self.shelf.gone), dict(self.store.views)
            try:
                archivist.turn({SHARD: keeper}, self.wall, self.mono)
            except Refused:
                self.earlier = []
            assert before == (self.shelf.segments, self.shelf.gone, self.store.views)

    @rule(n=which)
    def what_was_ordered_is_done(self, n: int) -> None:
        """The publisher tells and closes; the supervisor's own orders are carried out."""
        for effect_id, one in list(self.store.outbox.items()):
            effect = one.effect
            if effect.ticket != TICKETS[n].id or effect.kind in WORKS:
                continue
            if effect.kind is EffectKind.STATUS:
                self.say(Source.PUBLISHER, effect.ticket, effect.attempt, StatusPosted(effect.round))
            elif effect.kind is EffectKind.WITHDRAW:
                self.say(Source.PUBLISHER, effect.ticket, effect.attempt, Withdrawn(effect.turn))
            else:
                self.store.step(self.store.epoch, Batch(withdrawn=[effect_id]))
                self.keeper.forget(effect_id)
        self.absorb(list(self.inbound), dies=False)

    @rule(n=which, steps=st.integers(1, 3), ends=st.booleans())
    def time_goes_by(self, n: int, steps: int, ends: bool) -> None:
        """``ends``: after its end; else while its pull request is reviewed, however long that takes."""
        self.all_goes_well(n, 9, 1)
        if ends:
            self.person(n, CancelRequested("ada"), now=True)
        for seconds in (11.0, 61.0, 6000.0)[:steps]:
            self.what_was_ordered_is_done(n)
            self.the_archivist_looks_around(seconds, dies=False)

    @invariant()
    def segments_and_stream_are_the_log(self) -> None:
        if not hasattr(self, "shelf"):
            return
        for name, view in self.store.views.items():
            segments = self.shelf.segments.get(name, ())
            assert [one.first for one in segments] == [1, *(one.last + 1 for one in segments)][: len(segments)]
            stream = self.shelf.rows(name, "0", 10**6)
            rows = Segments(lambda: self.shelf).joined(stream, encode(segments), "0")
            assert fold_all([decode_event(raw) for _, raw in rows]) == view
            REACHED["live" if not view.state.terminal else "ended", bool(segments)] += 1
        if self.shelf.old:
            REACHED["forgotten", True] += 1

    @invariant()
    def only_what_ended_is_forgotten(self) -> None:
        for name in getattr(self, "shelf", Shelf(Store())).old:
            assert name not in self.store.views and name in self.keeper.shard.past


TRIED = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)


@pytest.mark.invariant("I17")
def test_segments_and_stream_fold_to_the_view_under_anything() -> None:
    REACHED.clear()
    run_state_machine_as_test(Sealed, settings=TRIED)
    assert all(REACHED[case] > 10 for case in [("live", True), ("ended", True), ("forgotten", True)]), REACHED


MUTANTS = {
    "numbers": Mutant(
        "supervisor.archive:Archivist._seal", "number + len(rows), rows[-1][0]", "number + len(rows) + 1, rows[-1][0]"
    ),
    "what ended": Mutant("supervisor.archive:duty", "view.state.terminal and", ""),
    "segments are kept": Mutant(
        "supervisor.archive:Archivist._seal",
        "segments = (*segments, Segment(name, first, number, cursor, digest))",
        "segments = (Segment(name, first, number, cursor, digest),)",
    ),
    "past is known": Mutant("supervisor.shard:ShardKeeper._accept", " and event.ticket not in self.shard.past", ""),
}
HUNT = settings(TRIED, phases=[Phase.generate])


@pytest.mark.parametrize("name", MUTANTS)
def test_an_archivist_that_loses_something_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name].install(monkeypatch)
    with pytest.raises((AssertionError, FleetError, KeyError)):
        run_state_machine_as_test(Sealed, settings=HUNT)
