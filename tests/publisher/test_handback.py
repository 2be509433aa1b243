"""A publisher that was told to go: it begins nothing, and hands back the publications it cannot end (I18)."""

from __future__ import annotations

import threading

import pytest

from fleet.adapters.git import BareRepo
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import Published, PublishProblem
from fleet.core.frozen import replace
from tests.publisher.world import World, problem, published
from tests.support.mutants import Mutant


def handed_back(world: World) -> None:
    """The worker must go before it pushed: it says so once, and the next one publishes what stands there then."""
    view = world.gated()
    begun, go_on = threading.Event(), threading.Event()

    def store(_: str) -> BareRepo:
        begun.set()
        assert go_on.wait(30)
        return world.store

    first, second = world.tasks("first"), world.tasks("second")
    first._publisher._stores = store
    running = threading.Thread(target=first.pull_request, args=(view.id, 1, 1))
    running.start()
    try:
        assert begun.wait(30)
        assert first.hand_back() == (Effect(EffectKind.PUBLISH, view.id, 1, 1).id,)
        (end,) = world.endings()
        assert problem(end) is PublishProblem.HANDED_BACK
        world.keep(replace(view, turn=1))  # what the supervisor does with that word
        second.pull_request(view.id, 1, 1)
    finally:
        go_on.set()
        running.join(60)
    assert first.hand_back() == (), "it has told its end"
    assert second.hand_back() == ()
    done = published(world.endings()[1])
    assert world.pulls() == [(done.number, "open", view.head)]
    assert all(not isinstance(end, Published) or end.number == done.number for end in world.endings())


@pytest.mark.invariant("I18")
def test_a_publication_whose_worker_must_go_is_handed_back(world: World) -> None:
    handed_back(world)


def nothing_begins(world: World) -> None:
    view = world.gated()
    tasks = world.tasks()
    tasks._stopping = lambda: True
    tasks.pull_request(view.id, 1, 1)
    tasks.status(view.id, 1, 0)
    assert world.told() == [] and world.pulls() == []
    assert tasks.hand_back() == ()
    world.tasks("another").pull_request(view.id, 1, 1)
    assert len(world.pulls()) == 1, "the order was still to be had"


@pytest.mark.invariant("I18")
def test_a_publisher_that_was_told_to_go_begins_nothing(world: World) -> None:
    nothing_begins(world)


@pytest.mark.invariant("I18")
@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("fleet.adapters.teller:Teller.owing", "self._owed[order.id] = (view, order)", "pass", handed_back),
        Mutant("fleet.adapters.teller:Teller.owing", "self._owed.pop(order.id, None)", "pass", handed_back),
        Mutant(
            "fleet.publisher.tasks:PublisherTasks.hand_back",
            "PublishProblem.HANDED_BACK",
            "PublishProblem.FORGE_DOWN",
            handed_back,
        ),
        Mutant(
            "fleet.publisher.tasks:PublisherTasks._begin",
            "None if self._stopping() else self",
            "self",
            nothing_begins,
        ),
    ],
    ids=["nothing is known to be owed", "owed for ever", "an outage instead", "begins after its signal"],
)
def test_a_publisher_that_goes_badly_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError):
        mutant.scenario(world)
