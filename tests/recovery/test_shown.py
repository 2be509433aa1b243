"""What an issue says already is not written again after a loss: hundreds of edits at once hold real news up (I19)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.core import labels
from fleet.core.states import State
from fleet.intake.recovery import Recovery
from tests.publisher.world import KEY, REPO, World
from tests.recovery.stage import LIMITS, Stage
from tests.support.mutants import Mutant

READS = {"get", "list", "fetch", "me"}


def in_review(world: World) -> tuple[Stage, int]:
    stage = Stage(world)
    number = stage.issue()
    stage.until("")
    assert stage.view(number).state is State.IN_REVIEW
    stage.lose()
    return stage, number


def edits(world: World, stage: Stage, number: int) -> list[str]:
    """What was written at the forge until the ticket was in review again and nothing more came."""
    before = len(world.forge.seen)
    stage.until("")
    view = stage.view(number)
    assert view.recovered is not None and view.state is State.IN_REVIEW
    return [one.verb for one in world.forge.seen[before:] if one.login == "fleet-bot" and not reads(one.verb)]


def reads(verb: str) -> bool:
    return verb.rpartition(".")[2] in READS


def nothing_new(world: World) -> None:
    stage, number = in_review(world)
    body = stage.comment(number)
    assert edits(world, stage, number) == [], "it is written again"
    assert stage.comment(number) == body and labels.REVIEW in stage.labels(number)
    # And once more, from a comment that names the ledger before the last.
    stage.lose()
    assert edits(world, stage, number) == []


@pytest.mark.invariant("I19")
def test_a_ticket_in_review_comes_back_without_a_word(world: World) -> None:
    nothing_new(world)


def another_label(world: World) -> None:
    stage, number = in_review(world)
    world.hub(world.token).swap_labels(REPO, number, labels.WORKING, (labels.REVIEW,))
    assert edits(world, stage, number)
    assert stage.labels(number) & set(labels.ALL) == {labels.REVIEW}, "the label lies"


def more_was_used(world: World) -> None:
    stage, number = in_review(world)
    stage.turns()
    agent, limits = lambda repo: stage.agent, lambda repo, branch: LIMITS
    bot = world.hub(world.token)
    one = Recovery(world.ledger, bot, stage.clock, KEY, lambda: (REPO,), agent, limits, begun=lambda ticket: 2)
    assert one.once() == 1
    assert edits(world, stage, number), "the comment lies"
    stage.lose()
    stage.until("")
    assert stage.view(number).attempt == 2, "the comment lies"


CHECKS: dict[str, Callable[[World], None]] = {"label": another_label, "counters": more_was_used}


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_not_true_any_more_is_written(world: World, name: str) -> None:
    CHECKS[name](world)


MUTANTS = {
    "not written": (Mutant("supervisor.telling:to_be_told", "not view.recovered.shown", "True"), nothing_new),
    "label": (
        Mutant("fleet.intake.rebuild:shown", "wanted in there and there.isdisjoint(unwanted)", "True"),
        another_label,
    ),
    "counters": (Mutant("fleet.intake.rebuild:shown", "said == true", "True"), more_was_used),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_its_protection_it_is_noticed(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, check = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        check(world)
