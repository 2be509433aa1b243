"""The judge of `fleet chaos` sees what went wrong, and the deck holds all that it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.adapters.crash import POINTS
from fleet.chaos import deck, verdict
from fleet.chaos.deck import (
    Break,
    Empty,
    Freeze,
    FreezeAt,
    Kill,
    KillAt,
    Link,
    Nothing,
    Round,
    name_of,
    schedule,
    whole_deck,
)
from fleet.chaos.proxy import Fault
from fleet.chaos.verdict import End, Played, Verdict, put_aside
from fleet.core.states import State
from tests.support.mutants import Mutant

TREES = ("a" * 40, "b" * 40)


def ends(seconds: float = 3.0) -> tuple[End, ...]:
    return tuple(End(place, "in_review", tree, 1, frozenset({"h"}), seconds) for place, tree in enumerate(TREES))


CALM = Played(Round(Nothing(), 1, 2, 0), 0, ends())
GOOD = Played(Round(KillAt("gates.begun"), 1, 2, 0), 2, ends(11.0))


def with_first(**changes: object) -> Played:
    return replace(GOOD, ends=(replace(GOOD.ends[0], **changes), *GOOD.ends[1:]))  # type: ignore[arg-type]


def judged(*played: Played) -> Verdict:
    return verdict.judge((CALM, GOOD, *played))


def totals(one: Verdict) -> tuple[int, int, int]:
    return one.totals["lost"], one.totals["doubled"], one.totals["changed"]


def test_what_ends_as_undisturbed_is_right() -> None:
    found = judged()
    assert (totals(found), found.wrong) == ((0, 0, 0), ())
    assert found.rows[1].late == (8.0, 8.0), "recovery is the time beyond the undisturbed median"
    assert (found.totals["kills"], found.totals["faults"]) == (2, 0)
    frozen = judged(replace(GOOD, round=replace(GOOD.round, what=Freeze("gates"))))
    assert (frozen.totals["kills"], frozen.totals["faults"], frozen.wrong) == (2, 2, ())


def a_lost_ticket_is_seen() -> None:
    for bad in (with_first(state="escalated"), with_first(pulls=0), replace(GOOD, ends=GOOD.ends[1:])):
        found = judged(bad)
        assert totals(found) == (1, 0, 0) and len(found.wrong) == 1


def a_doubled_pull_request_is_seen() -> None:
    for bad in (with_first(pulls=2), with_first(heads=frozenset({"h", "other"}))):
        found = judged(bad)
        assert totals(found) == (0, 1, 0) and len(found.wrong) == 1


def a_changed_tree_is_seen() -> None:
    found = judged(with_first(tree=TREES[1]))
    assert totals(found) == (0, 0, 1) and len(found.wrong) == 1


def a_round_that_struck_nothing_is_wrong() -> None:
    found = judged(replace(GOOD, struck=0))
    assert len(found.wrong) == 1 and "nothing was struck" in found.wrong[0]


def a_deck_that_disturbs_nothing_is_wrong() -> None:
    assert verdict.judge((CALM,)).wrong and verdict.judge(()).wrong


def a_lane_that_broke_is_wrong() -> None:
    found = judged(replace(GOOD, error="the lane broke: no disk"))
    assert len(found.wrong) == 1 and "no disk" in found.wrong[0]


def an_undisturbed_run_that_differs_from_itself_is_wrong() -> None:
    other = replace(CALM, round=replace(CALM.round, number=2), ends=(replace(CALM.ends[0], tree="f" * 40),))
    found = judged(replace(other, round=replace(other.round, tickets=1)))
    assert totals(found) == (0, 0, 1)


SCENARIOS = (
    a_lost_ticket_is_seen,
    a_doubled_pull_request_is_seen,
    a_changed_tree_is_seen,
    a_round_that_struck_nothing_is_wrong,
    a_deck_that_disturbs_nothing_is_wrong,
    a_lane_that_broke_is_wrong,
    an_undisturbed_run_that_differs_from_itself_is_wrong,
)
JUDGE = "fleet.chaos.verdict"
MUTANTS = (
    Mutant(f"{JUDGE}:_wrong", "if end.lost:", "if False:", a_lost_ticket_is_seen),
    Mutant(f"{JUDGE}:_wrong", "!= one.round.tickets", "> one.round.tickets", a_lost_ticket_is_seen),
    Mutant(f"{JUDGE}:_row", "one.round.tickets - len(one.ends)", "0", a_lost_ticket_is_seen),
    Mutant(f"{JUDGE}:_wrong", "if end.doubled:", "if False:", a_doubled_pull_request_is_seen),
    Mutant(f"{JUDGE}:_changed", "end.tree != tree", "False", a_changed_tree_is_seen),
    Mutant(f"{JUDGE}:_wrong", "not one.struck and", "False and", a_round_that_struck_nothing_is_wrong),
    Mutant(f"{JUDGE}:_wrong", "if one.error:", "if False:", a_lane_that_broke_is_wrong),
    Mutant(f"{JUDGE}:judge", "if len(rows) == sum(", "if -1 == sum(", a_deck_that_disturbs_nothing_is_wrong),
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_the_judge_notices(scenario: object) -> None:
    assert callable(scenario)
    scenario()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: f"{one.where.partition(':')[2]}-{one.old[:20]}")
def test_a_judge_that_looks_away_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError):
        mutant.scenario()


# --- the deck ------------------------------------------------------------------------------------------------------
def test_the_deck_holds_every_point_process_and_line() -> None:
    cards = whole_deck()
    assert {one.point for one in cards if isinstance(one, KillAt)} == set(POINTS)
    processes = {*deck.SERVICES, *deck.MODEL_SERVICES, "redis", "guard", "loop"}
    assert {one.point for one in cards if isinstance(one, FreezeAt)} < set(POINTS)
    assert {one.process for one in cards if isinstance(one, Kill)} == processes
    assert {one.process for one in cards if isinstance(one, Freeze)} == processes
    broken = [(one.link, one.fault) for one in cards if isinstance(one, Break)]
    assert {link for link, _ in broken} == set(Link)
    for link in Link:
        assert {Fault.REFUSE, Fault.RESET, Fault.STALL, Fault.CUT} <= {fault for one, fault in broken if one is link}
    assert {one.status for one in cards if isinstance(one, Break)} == {0, 429, 502, 503}
    assert Empty() in cards
    assert len({name_of(one) for one in cards}) == len(cards)


def test_every_card_gets_all_its_tickets_and_the_same_seed_is_the_same_order() -> None:
    cards = whole_deck()
    rounds = schedule(cards, 25, 10, 7)
    for card in (Nothing(), Nothing(model=True), *cards):
        mine = [one for one in rounds if one.what == card]
        assert [one.number for one in mine] == [1, 2, 3] and sum(one.tickets for one in mine) == 25
    assert [type(one.what) for one in rounds[:3]] == [Nothing, Nothing, type(rounds[2].what)]
    assert rounds == schedule(cards, 25, 10, 7) != schedule(cards, 25, 10, 8)
    assert Nothing(model=True) not in {one.what for one in schedule(cards[:3], 5, 10, 1)}


def test_a_sample_takes_of_every_kind() -> None:
    cards = whole_deck()
    few = deck.sampled(cards, 8, 3)
    assert {type(one) for one in few} == {type(one) for one in cards}
    assert {one.link for one in few if isinstance(one, Break)} == set(Link)
    assert deck.sampled(cards, 8, 3) == few != deck.sampled(cards, 8, 4)
    assert sorted(map(name_of, deck.sampled(cards, 0, 3))) == sorted(map(name_of, cards))


def test_a_pattern_chooses_by_name() -> None:
    cards = whole_deck()
    assert {name_of(one) for one in deck.matching(cards, "kill at gates.b*")} == {
        "kill at gates.begun",
        "kill at gates.before_told",
    }
    assert {type(one) for one in deck.matching(cards, "freeze")} == {Freeze, FreezeAt}
    assert deck.matching(cards, "nowhere") == ()


def test_a_service_is_struck_while_it_has_work() -> None:
    for dice in range(4):
        assert deck.moment(Kill("gates"), dice) is State.GATING
        assert deck.moment(Freeze("publisher"), dice) is State.PUBLISHING
    assert deck.most(KillAt("attempt.after_claim"), 10) == deck.most(FreezeAt("attempt.after_claim"), 10) == 10
    assert [deck.most(KillAt("gates.begun"), tickets) for tickets in (1, 10)] == [1, 2]
    assert deck.most(FreezeAt("gates.begun"), 10) == 1


def test_a_store_that_forgets_takes_nothing_off_the_count() -> None:
    assert put_aside(3, 10) == 7
    assert put_aside(300, 10) == 10
