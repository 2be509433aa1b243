"""kill -9 of every process, at every named point and at any moment: the end is the one of the undisturbed run (I6).

bin/test takes a sample; all of it: bin/test --long tests/chaos. CHAOS_SEED chooses the sample and the moments.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fleet.adapters.crash import POINTS
from tests.chaos.rounds import PROCESSES, SETTINGS, End, Rounds, table
from tests.e2e.kit import fleet_home

SEED = int(os.environ.get("CHAOS_SEED", "1"))
# The log of an undisturbed ticket has about this many events.
EVENTS = 18


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    with fleet_home(None, **SETTINGS) as fleet:
        folder = tmp_path_factory.mktemp("chaos")
        folder.chmod(0o755)
        yield Rounds(fleet, folder)


@pytest.fixture(scope="module")
def calm(rounds: Rounds) -> End:
    end = rounds.undisturbed()
    assert (end.state, end.pulls, end.killed, end.attempts) == ("in_review", 1, 0, 1), end
    return end


def judge(ends: list[End], calm: End) -> None:
    """Every round killed something, lost nothing, doubled nothing, and made the very tree that calm made."""
    assert ends and all(end.killed for end in ends), "a round that killed nothing shows nothing"
    wrong = [end for end in ends if end.lost or end.doubled or end.tree != calm.tree]
    assert not wrong, wrong


def conclude(
    ends: list[End], calm: End, capsys: pytest.CaptureFixture[str], record_property: Callable[..., None]
) -> None:
    with capsys.disabled():
        print(f"\nseed {SEED}\n{table(ends)}")
    record_property("kills", table(ends))
    judge(ends, calm)


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I6")
@pytest.mark.parametrize(
    "tried", [4, pytest.param(len(POINTS), marks=[pytest.mark.long, pytest.mark.timeout(3600)])], ids=["some", "all"]
)
def test_killed_at_the_named_points(
    rounds: Rounds, calm: End, tried: int, capsys: pytest.CaptureFixture[str], record_property: Callable[..., None]
) -> None:
    points = random.Random(SEED).sample(POINTS, tried)
    conclude([rounds.at_point(point) for point in points], calm, capsys, record_property)


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I6")
@pytest.mark.parametrize(
    "tried",
    [4, pytest.param(3 * len(PROCESSES), marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
    ids=["some", "all"],
)
def test_each_process_killed_at_any_moment(
    rounds: Rounds, calm: End, tried: int, capsys: pytest.CaptureFixture[str], record_property: Callable[..., None]
) -> None:
    dice = random.Random(SEED)
    names = dice.sample(PROCESSES * 3, tried)
    conclude([rounds.of_process(name, dice.randrange(EVENTS)) for name in names], calm, capsys, record_property)


def test_the_judge_notices_what_went_wrong(calm: End) -> None:
    good = replace(calm, killed=1)
    judge([good], calm)
    for wrong in (
        replace(good, killed=0),
        replace(good, state="escalated"),
        replace(good, pulls=0),
        replace(good, pulls=2),
        replace(good, heads=good.heads | {"f" * 40}),
        replace(good, tree="f" * 40),
    ):
        with pytest.raises(AssertionError):
            judge([good, wrong], calm)
