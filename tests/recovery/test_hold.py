"""A fleet that a person paused stays paused when its store is lost (I1): nothing is started that nobody wants."""

from __future__ import annotations

import pytest

from fleet.core.states import State
from fleet.core.view import Hold
from fleet.local import hold
from fleet.local.home import Home
from tests.publisher.world import World
from tests.recovery.stage import Stage
from tests.support.mutants import Mutant


def a_loss(world: World, home: Home) -> None:
    ledger = world.ledger
    stage = Stage(world, hold_again=lambda: hold.again(home, ledger))
    stage.turns()
    hold.put(home, ledger, Hold("ann", 5.0))
    number = stage.issue()
    stage.until("running")
    assert stage.view(number).state is State.QUEUED, "this shows nothing"
    stage.lose()
    stage.until("running")
    view = stage.view(number)
    assert view.recovered is not None and view.state is State.QUEUED, "a lost ticket was started"
    assert "paused by ann" in ledger.why(view.id) and ledger.held() == Hold("ann", 5.0)
    hold.put(home, ledger, None)
    stage.lose()
    stage.until("")
    assert stage.view(number).state is State.IN_REVIEW, "it is paused although a person let it go on"


@pytest.mark.invariant("I1")
def test_a_paused_fleet_stays_paused_without_its_store(world: World, home: Home) -> None:
    a_loss(world, home)


def test_a_file_that_cannot_be_read_pauses_all_the_same(world: World, home: Home) -> None:
    (home.layout.home / hold.FILE).write_text("{")
    hold.again(home, world.ledger)
    held = world.ledger.held()
    assert held is not None and held.by == "somebody"


def test_what_the_ledger_knows_is_left_alone(world: World, home: Home) -> None:
    hold.put(home, world.ledger, Hold("ann", 5.0))
    world.ledger.hold(Hold("bob", 7.0))
    hold.again(home, world.ledger)
    assert world.ledger.held() == Hold("bob", 7.0)


MUTANTS = {
    "it is kept": (Mutant("fleet.local.hold:put", "if hold is None:", "if True:"), "was started"),
    "it is said again": (Mutant("fleet.intake.sweep:Sweep._recover", "self._hold_again()", "pass"), "was started"),
    "it ends": (Mutant("fleet.local.hold:put", "path.unlink(missing_ok=True)", "pass"), "let it go on"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_pause_that_is_forgotten_is_noticed(
    world: World, home: Home, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant, said = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError, match=said):
        a_loss(world, home)
