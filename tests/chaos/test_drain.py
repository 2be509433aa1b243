"""SIGTERM to any process at any moment: work is finished or handed back, and nothing is counted for it (I18).

bin/test takes a sample; a hundred signals: bin/test --long tests/chaos/test_drain.py. CHAOS_SEED chooses.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.chaos.drains import TARGETS, Drained, Drains, table
from tests.e2e.kit import fleet_home

SEED = int(os.environ.get("CHAOS_SEED", "1"))
# The log of an undisturbed ticket has about this many events.
EVENTS = 16
# The guard is alive for about so many of them.
MET = {"guard": 10}


@pytest.fixture(scope="module")
def drains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drains]:
    with fleet_home(None, FLEET_SUPERVISION_BACKOFF_FIRST="0.5") as fleet:
        folder = tmp_path_factory.mktemp("drain")
        folder.chmod(0o755)
        yield Drains(fleet, folder)


@pytest.fixture(scope="module")
def calm(drains: Drains) -> Drained:
    found = drains.round("", 0)
    assert (found.state, found.signals, found.starts, found.failures) == ("in_review", 0, (1,), 0), found
    return found


def judge(rounds: list[Drained], calm: Drained) -> None:
    """Something was told to stop, went within its grace, and it cost nothing but time."""
    assert sum(one.signals for one in rounds), "a loop that signalled nothing shows nothing"
    wrong = [one for one in rounds if one.lost or one.doubled or one.failures or not one.gone or one.tree != calm.tree]
    assert not wrong, wrong


@pytest.mark.slow
@pytest.mark.invariant("I18")
@pytest.mark.parametrize(
    "signals", [5, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(7200)])], ids=["some", "hundred"]
)
def test_told_to_stop_at_any_moment(
    drains: Drains,
    calm: Drained,
    signals: int,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[..., None],
) -> None:
    """A round whose ticket ended before its process was met is made again with another one."""
    dice = random.Random(SEED)
    rounds: list[Drained] = []
    while sum(one.signals > 0 for one in rounds) < signals and len(rounds) < 2 * signals:
        # Those with an attempt in their hands come first: a short form must meet them, too.
        for name in sorted(dice.sample(TARGETS, len(TARGETS)), key=lambda one: one not in ("guard", "down")):
            if sum(one.signals > 0 for one in rounds) < signals:
                rounds.append(drains.round(name, dice.randrange(MET.get(name, EVENTS))))
    with capsys.disabled():
        print(f"\nseed {SEED}\n{table(rounds)}")
    record_property("signals", table(rounds))
    assert sum(one.signals > 0 for one in rounds) == signals
    judge(rounds, calm)


@pytest.mark.slow
def test_the_judge_notices_what_went_wrong(calm: Drained) -> None:
    good = replace(calm, signals=1)
    judge([good], calm)
    for wrong in (
        calm,
        replace(good, state="escalated"),
        replace(good, pulls=2),
        replace(good, tree="f" * 40),
        replace(good, starts=(1, 1)),
        replace(good, moves=(*good.moves, "lost")),
        replace(good, gone=False),
    ):
        with pytest.raises(AssertionError):
            judge([wrong], calm)
