"""Histories that earlier versions stored: they decode, and they fold to the views that were stored with them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fleet.core.codec import encode
from fleet.core.errors import InternalError
from supervisor.fold import fold_all
from supervisor.policy import Policy
from supervisor.replay import replay
from tests.supervisor.every_scene import SCENES
from tests.support.histories import History, differences, histories, record
from tests.support.mutants import Mutant

ALL = list(histories())


def folds_as_stored(history: History) -> None:
    found = msgspec.json.decode(encode(fold_all(history.events)))
    assert differences(history.view, found) == []


@pytest.mark.invariant("I17")
@pytest.mark.parametrize("history", ALL, ids=lambda one: one.name)
def test_a_stored_history_folds_to_its_stored_view(history: History) -> None:
    folds_as_stored(history)


@pytest.mark.parametrize("history", ALL, ids=lambda one: one.name)
def test_a_stored_history_can_be_replayed(history: History) -> None:
    """Its decisions may differ: a later version may decide otherwise, and says so."""
    assert len(list(replay(history.events, Policy()))) == len(history.events)


@pytest.mark.invariant("I17")
def test_every_scene_has_its_history_and_none_is_written_twice(tmp_path: Path) -> None:
    assert {history.name.split("/")[1] for history in ALL} >= SCENES.keys(), "python -m tests.support.histories"
    one = next(iter(SCENES))
    for name in SCENES:
        if name != one:
            (tmp_path / "v1").mkdir(exist_ok=True)
            (tmp_path / "v1" / f"{name}.jsonl.gz").write_bytes(b"as it is")
    assert record(tmp_path) == [one] and record(tmp_path) == []
    kept = (tmp_path / "v1").glob("*.jsonl.gz")
    assert sum(path.read_bytes() == b"as it is" for path in kept) == len(SCENES) - 1


def test_a_difference_is_named_and_what_is_new_is_none() -> None:
    stored = {"a": 1, "b": {"c": [1, {"d": 2}]}, "gone": 0}
    assert differences(stored, {"a": 1, "b": {"c": [1, {"d": 3, "new": 1}]}, "new": 2}) == [
        "view.b.c[1].d: stored 2, now 3",
        "view.gone: stored 0, now None",
    ]
    assert differences([1], [1, 2]) == ["view: stored [1], now [1, 2]"]


MUTANTS = {
    "money": Mutant("supervisor.fold:_attempt", "cost=view.cost + cost", "cost=cost"),
    "counts": Mutant("supervisor.fold:_count", "counts.get(cause, 0) + 1", "1"),
    "what was recovered": Mutant("supervisor.beginning:begun", "attempt=known.attempts", "attempt=0"),
    "who works": Mutant("supervisor.fold:_moved", "if changed.agent:", "if False:"),
    "answers": Mutant(
        "supervisor.fold:_moved", "view.reason is Reason.NEEDS_INPUT and changed.reason is Reason.RESUMED", "False"
    ),
    "comments that were heard": Mutant("supervisor.fold:_commented", "noted(view, said)", "view"),
    "rounds": Mutant("supervisor.fold:_moved", "view.round + 1", "view.round + 2"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fold_with_another_meaning_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name].install(monkeypatch)
    with pytest.raises((AssertionError, InternalError)):
        for history in ALL:
            folds_as_stored(history)
