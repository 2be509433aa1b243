"""A pass looks at what is due, and time alone changes nothing before that (I15)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.states import Reason, State
from fleet.core.step import Batch
from fleet.core.view import TicketView, Watch
from supervisor.agenda import NEVER, Agenda
from supervisor.decide import decide
from supervisor.liveness import Clocks, Liveness
from supervisor.policy import Policy
from supervisor.shard import ROUND_EVERY, Shard, ShardKeeper, Turn
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

NOW, WALL = 100_000.0, 1_700_000_000.0
POLICY = Policy()
ago = st.sampled_from([0.0, 1.0, 29.0, 31.0, 119.0, 121.0, 299.0, 301.0, 479.0, 481.0, 599.0, 601.0])
ever = st.one_of(st.none(), ago.map(lambda seconds: NOW - seconds))
CALLS = [(), ("a", "b", "c"), ("a",) * 4, ("a!",) * 3, ("a", "b") * 3]
watches = st.builds(
    Watch,
    begun=st.booleans(),
    asking=st.booleans(),
    calls=st.sampled_from(CALLS),
    rung=st.integers(0, 4),
    sign=st.sampled_from(["", "lives"]),
    stopping=st.sampled_from(["", "it stalled"]),
)
signs = st.builds(Liveness, ordered=ago.map(lambda s: NOW - s), heard=ever, word=ever, progress=ever, rung=ever)


def view_in(state: State, watch: Watch, until: float | None = None) -> TicketView:
    one = ticket(agent="anthropic")
    return TicketView(one, state, Reason.CLAIMED, WALL, version=3, attempt=1, asked=1, until=until, watch=watch)


def time_alone_changes_nothing_before_the_next_look(view: TicketView, known: Liveness, wait: float) -> None:
    """What is undecided at one look is undecided until the next, and so on from look to look."""
    clocks = Clocks()
    clocks.known[view.id] = known

    def undecided(mono: float) -> bool:
        return decide(view, clocks.moment(view, WALL + mono - NOW, mono, 0.5), POLICY) is None

    since = NOW
    while undecided(since) and since < NOW + 5000.0:
        look = clocks.next_look(view, since, POLICY)
        later = min(look, NOW + 5000.0)
        for mono in (later - 0.001, since + (later - since) * wait):
            if since <= mono < later:
                assert undecided(mono), f"decided {mono - NOW:.1f} s on, but looked at after {look - NOW:.1f} s"
        since = later + 0.001


@pytest.mark.invariant("I15")
@given(st.sampled_from(sorted(State, key=lambda one: one.value)), watches, signs, st.floats(0, 1))
def test_time_alone_changes_nothing_before_the_next_look(
    state: State, watch: Watch, known: Liveness, wait: float
) -> None:
    """Fails when ``decide`` looks at one more clock that ``Clocks.next_look`` does not know."""
    time_alone_changes_nothing_before_the_next_look(view_in(state, watch), known, wait)


@pytest.mark.invariant("I15")
@given(st.floats(0.1, 1000.0), st.floats(0, 1))
def test_a_pause_is_looked_at_when_it_is_over(pause: float, wait: float) -> None:
    view = view_in(State.BACKING_OFF, Watch(), until=WALL + pause)
    time_alone_changes_nothing_before_the_next_look(view, Liveness(NOW), wait)


ALL_BUT_RUNG = Liveness(NOW, heard=NOW + 9e3, word=NOW + 9e3, progress=NOW + 9e3, rung=NOW)
LIMITS = {
    "lost": ("policy.lost_after", Liveness(NOW, heard=NOW), State.GATING, Watch()),
    "unclaimed": ("policy.claim_within", Liveness(NOW), State.STARTING, Watch()),
    "progress": ("policy.no_progress", Liveness(NOW, heard=NOW + 9e3, word=NOW + 9e3), State.RUNNING, Watch(True)),
    "nudge": ("policy.between_rungs", ALL_BUT_RUNG, State.RUNNING, Watch(True, calls=("a",) * 4, rung=2)),
    "probe": ("policy.probe_within", ALL_BUT_RUNG, State.RUNNING, Watch(True, calls=("a",) * 4, rung=1)),
    "stop": ("policy.stop_within", ALL_BUT_RUNG, State.RUNNING, Watch(True, rung=4, stopping="it stalled")),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_clock_that_is_forgotten_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, known, state, watch = LIMITS[name]
    time_alone_changes_nothing_before_the_next_look(view_in(state, watch), known, 1.0)
    Mutant("supervisor.liveness:_limits", old, "1e6").install(monkeypatch)
    with pytest.raises(AssertionError):
        time_alone_changes_nothing_before_the_next_look(view_in(state, watch), replace(known), 1.0)


def keeper_of(*views: TicketView) -> ShardKeeper:
    return ShardKeeper(Shard("s00", 1, {view.id: view for view in views}, {}, {}), POLICY)


def test_a_tick_looks_only_at_what_is_due() -> None:
    running = view_in(State.RUNNING, Watch(True))
    waiting = replace(view_in(State.IN_REVIEW, Watch()), ticket=ticket(2))
    keeper = keeper_of(running, waiting)

    def look(mono: float) -> Turn:
        turn = keeper.tick(WALL, mono, 0.5)
        keeper.commit(turn, mono)
        return turn

    assert look(NOW).looked == [running.id], "after a take-over all that waits for a clock is looked at"
    assert keeper.next() == NOW + ROUND_EVERY
    assert look(NOW + 1).looked == []
    assert look(NOW + ROUND_EVERY).looked == [running.id], "whatever was reckoned, nobody is forgotten"
    heard = Turn(Batch(), NOW + 6, heard={running.id})
    keeper.commit(heard, NOW + 6)
    assert NOW + ROUND_EVERY < keeper.next() <= NOW + 2 * ROUND_EVERY


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 100))), st.floats(0, 100), st.integers(1, 7))
def test_an_agenda_gives_each_name_once_at_its_earliest_moment(
    asked: list[tuple[str, float]], mono: float, most: int
) -> None:
    agenda, wanted = Agenda(), dict[str, float]()
    for name, when in asked:
        agenda.at(name, when)
        wanted[name] = min(when, wanted.get(name, NEVER))
    assert agenda.next() == min(wanted.values(), default=NEVER)
    due = sorted((when, name) for name, when in wanted.items() if when <= mono)
    taken = agenda.due(mono, most)
    assert len(taken) == min(most, len(due)) == len(set(taken))
    assert [wanted[name] for name in taken] == [when for when, _ in due[:most]]
    assert sorted(taken + agenda.due(mono)) == sorted(name for _, name in due)
    for name in wanted:
        agenda.drop(name)
    assert agenda.next() == NEVER
