"""What people ordered in comments about the time when the ledger was lost is done all the same (I1)."""

from __future__ import annotations

import pytest

from fleet.core.errors import TemporaryError
from fleet.core.states import State
from fleet.local.home import Home
from fleet.local.places import HomePlaces
from tests.publisher.world import REPO, World
from tests.recovery.stage import Stage
from tests.support.mutants import Mutant


@pytest.fixture
def stage(world: World, home: Home) -> Stage:
    return Stage(world, places=HomePlaces(home))


def write(stage: Stage, number: int, body: str) -> None:
    stage.world.bob.put_comment(REPO, number, body, body)


def looked(stage: Stage) -> None:
    """Long enough for every kind of look, and for the supervisor to read what was found."""
    stage.turns()
    for _ in range(3):
        stage.clock.advance(61.0)
        stage.sweep.once()
        stage.turns()


def an_order_that_nobody_sealed(stage: Stage) -> None:
    """Heard and obeyed, and the ledger is lost before the status comment has it."""
    number = stage.issue()
    stage.until("running")
    write(stage, number, "/fleet pause")
    stage.clock.advance(61.0)
    stage.sweep.once()
    stage.turns()
    assert stage.view(number).state is State.PARKED
    stage.lose()
    looked(stage)
    view = stage.view(number)
    assert view.recovered is not None and view.recovered.heard == 0, "this shows nothing"
    assert (view.state, view.detail) == (State.PARKED, "by bob"), "it works although a person paused it"


def test_what_a_lost_ledger_heard_is_done(stage: Stage) -> None:
    an_order_that_nobody_sealed(stage)


def an_order_before_its_ticket(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost tickets cannot be looked for yet, another one is accepted meanwhile, and a person writes to a lost one."""
    number = stage.issue()
    stage.until("running")
    stage.lose()
    write(stage, number, "/fleet pause")
    other = stage.issue("Another thing")

    def away(*args: object) -> object:
        raise TemporaryError("The forge answered 502.")

    with monkeypatch.context() as patch:
        patch.setattr(stage.recovery._forge, "issues_with_label", away)
        looked(stage)
        assert stage.view(other).ticket.number == other
    stage.clock.advance(300.0)
    looked(stage)
    assert stage.view(number).recovered is not None, "it is not recovered"
    assert stage.view(number).detail == "by bob", "the order was taken for one that is for nobody"


def test_an_order_for_a_ticket_that_is_not_found_yet_waits_for_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_order_before_its_ticket(stage, monkeypatch)


def an_order_between_the_word_and_the_view(stage: Stage) -> None:
    """The lost ticket was found and told, and the supervisor has not read it yet."""
    number, other = stage.issue(), stage.issue("Another thing")
    stage.until("running")
    stage.lose()
    stage.turns()
    write(stage, number, "/fleet pause")
    stage.clock.advance(61.0)
    assert stage.recovery.once() == 2
    views = list(stage.world.ledger.views())
    assert not views and not stage.recovery.settled(REPO, ()), "told is not known"
    stage.turns()
    only = [view for view in stage.world.ledger.views() if view.ticket.number == other]
    assert not stage.recovery.settled(REPO, [view.id for view in only])
    looked(stage)
    assert stage.view(number).detail == "by bob"


def test_orders_wait_until_every_ticket_that_was_found_is_there(stage: Stage) -> None:
    an_order_between_the_word_and_the_view(stage)


def test_what_never_comes_holds_no_order_up_for_ever(stage: Stage) -> None:
    stage.turns()
    stage.recovery.once()
    stage.recovery._looks[REPO].taken.add("a-ticket-that-was-set-aside")
    assert not stage.recovery.settled(REPO, ())
    for _ in range(5):
        stage.clock.advance(1000.0)
        stage.recovery.once()
    assert stage.recovery.settled(REPO, ())


@pytest.mark.parametrize("protection", ["told again", "waits for the look", "waits for what was found"])
def test_without_its_protection_the_order_is_lost(
    stage: Stage, protection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = "fleet.intake.recovery:Recovery.settled"
    if protection == "told again":
        Mutant("fleet.intake.comments:unheard", "one.comment > known", "False and known").install(monkeypatch)
        with pytest.raises(AssertionError, match="although a person paused it"):
            an_order_that_nobody_sealed(stage)
    elif protection == "waits for the look":
        Mutant(settled, "(look.again and not look.taken)", "True").install(monkeypatch)
        with pytest.raises(AssertionError, match="one that is for nobody"):
            an_order_before_its_ticket(stage, monkeypatch)
    else:
        Mutant(settled, "and not look.taken", "").install(monkeypatch)
        with pytest.raises(AssertionError, match="told is not known"):
            an_order_between_the_word_and_the_view(stage)


def test_the_file_of_an_earlier_version_is_read(home: Home) -> None:
    file = home.layout.home / "comments.json"
    file.write_text('{"o/r": {"comment": 7, "at": 3.5}}')
    place = HomePlaces(home).get("o/r")
    assert place is not None and (place.comment, place.at, place.taken) == (7, 3.5, ())
