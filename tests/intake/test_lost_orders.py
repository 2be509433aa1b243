"""Orders in comments when the ledger that heard them, or the place up to which one looked, is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.core.recovery import Recovered
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from tests.intake.talk import Talk
from tests.publisher.world import REPO
from tests.support.mutants import Mutant


def lost_in_between(talk: Talk) -> None:
    """The ledger heard an order and was lost before the status comment said so; the forge has an older state."""
    talk.write("bob", "/fleet approve $2")
    talk.look()
    sealed = talk.view
    talk.write("stranger", "/fleet approve $100")
    talk.write("bob", "/fleet approve $3")
    talk.write("bob", "/fleet steer use the other module")
    assert len(talk.look()) == 2
    taken_up = Recovered(State.QUEUED, Reason.RECOVERED, heard=sealed.heard)
    talk.room.keep(replace(sealed, recovered=taken_up, state=State.QUEUED, reason=Reason.RECOVERED))
    talk.room.world.forge.store.set_permission(REPO, "stranger", "write")
    talk.restart()
    talk.look()
    assert (talk.view.raised_usd, talk.view.steers) == (5.0, ("bob: use the other module",)), "not what people ordered"
    assert talk.look() == [] and talk.notebook.get(REPO) is not None


@pytest.mark.invariant("I1")
def test_an_order_that_a_lost_ledger_heard_is_told_to_the_next(talk: Talk) -> None:
    lost_in_between(talk)


def test_a_lost_order_that_its_author_took_back_is_dropped(talk: Talk) -> None:
    ordered = talk.write("bob", "/fleet cancel")
    before = talk.view
    assert len(talk.look()) == 1
    talk.edit("bob", ordered, "Never mind.")
    talk.room.keep(replace(before, recovered=Recovered(State.QUEUED, Reason.RECOVERED)))
    assert talk.look() == [] and not talk.view.cancel
    place = talk.notebook.get(REPO)
    assert place is not None and place.taken == (), "it is asked for no more"


def of_an_earlier_ticket(talk: Talk) -> None:
    """The issue's next ticket is not given what people ordered the first, even where the place was lost."""
    talk.write("bob", "/fleet cancel")
    talk.look()
    first = replace(talk.view, state=State.CANCELLED, reason=Reason.CANCELLED_BY_PERSON)
    talk.keep(first)
    later = replace(first.ticket, id=f"{first.id}.2", generation=2, accepted_at=first.ticket.accepted_at + 1.0)
    talk.room.keep(TicketView(later, State.QUEUED, Reason.ACCEPTED, since=0.0))
    talk.notebook.known.clear()
    talk.restart()
    talk.sweep.once()
    place = talk.notebook.get(REPO)
    assert place is not None and place.comment and not place.taken, "the first one's order"


def test_an_order_for_the_first_ticket_of_an_issue_is_none_for_the_second(talk: Talk) -> None:
    of_an_earlier_ticket(talk)


def of_a_recovered_ticket(talk: Talk) -> None:
    """The first ticket came back and ended, and the label was put on again, before its orders were looked at."""
    talk.write("bob", "/fleet cancel")
    talk.look()
    ended = replace(talk.view, state=State.ESCALATED, reason=Reason.POISON, cancel="", heard=0)
    talk.keep(replace(ended, recovered=Recovered(State.QUEUED, Reason.RECOVERED)))
    later = replace(talk.view.ticket, id=f"{ended.id}.2", generation=2, accepted_at=ended.ticket.accepted_at + 1.0)
    talk.room.keep(TicketView(later, State.QUEUED, Reason.ACCEPTED, since=0.0))
    talk.restart()
    talk.room.clock.advance(61.0)
    talk.sweep.once()
    place = talk.notebook.get(REPO)
    assert place is not None and [one.ticket for one in place.taken] == [ended.id], "another ticket's order"


def test_an_order_that_was_lost_is_told_to_its_own_ticket(talk: Talk) -> None:
    of_a_recovered_ticket(talk)


MUTANTS: dict[str, tuple[Mutant, Callable[[Talk], None]]] = {
    "told again": (Mutant("fleet.intake.comments:unheard", "one.comment > known", "False and known"), lost_in_between),
    "only what was taken": (
        Mutant("fleet.intake.comments:CommentIntake.look", "and comment.id not in owners", "and not owed"),
        lost_in_between,
    ),
    "only to its own": (
        Mutant("fleet.intake.comments:CommentIntake.look", "owners.get(comment.id, view.id)", "view.id"),
        of_a_recovered_ticket,
    ),
    "each to its ticket": (
        Mutant("fleet.intake.comments:heard_by", "one.ticket.number == view.ticket.number", "one.id == view.id"),
        of_an_earlier_ticket,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(name: str, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, check = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        check(talk)
