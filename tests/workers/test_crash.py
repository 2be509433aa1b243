"""Guard and loop killed at every named point: the next attempt has the same result (I6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.adapters import crash
from fleet.adapters.crash import POINTS
from fleet.adapters.git import BareRepo
from fleet.core.codec import decode
from fleet.core.events import ChangeReady
from tests.support.wait import eventually
from tests.workers.kit import Attempts, left

pytestmark = pytest.mark.needs("bwrap")

CHANGE = "command:sed -i s/x/y/ a.py"
CLAIMED = [point for point in POINTS if point.startswith("attempt.") and point != "attempt.before_claim"]


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt host is a fork of this process, in which another test may have passed a point already."""
    monkeypatch.setattr(crash, "_asked", [])


@pytest.mark.invariant("I6")
@pytest.mark.parametrize("point", CLAIMED)
def test_a_death_at_any_point_leaves_the_next_attempt_the_same_result(
    attempts: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setenv("FLEET_CRASH_AT", f"{point}:1:{tmp_path}")
    attempts.serve()
    one = attempts.order(CHANGE)
    attempts.finish(one)
    assert (tmp_path / "crash.0").exists()
    assert eventually(lambda: left(attempts.pid) == [])
    one = attempts.order(CHANGE, attempt=2)
    attempts.finish(one, attempt=2)
    second = [event for event in attempts.channel.events() if event.attempt == 2 and event.seq]
    ready = next(event.data for event in second if isinstance(event.data, ChangeReady))
    first = attempts.artifacts.get(f"tickets/{one.id}/1/change.json")
    if first is not None:
        assert decode(first, ChangeReady).commit == ready.commit
    store = BareRepo.init(tmp_path / "check.git")
    store.fetch(attempts.source, ("+refs/heads/*:refs/heads/*",))
    bundle = attempts.artifacts.path(ready.bundle)
    assert bundle is not None
    store.unbundle(bundle)
    assert store.rev(ready.commit) == ready.commit


def test_a_death_before_the_claim_costs_nothing(
    attempts: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_CRASH_AT", f"attempt.before_claim:1:{tmp_path}")
    attempts.serve()
    one = attempts.order(CHANGE)
    attempts.finish(one)
    assert attempts.channel.events() == []
    attempts.finish(one)
    assert attempts.channel.kinds()[-1] == "AttemptStopped"
