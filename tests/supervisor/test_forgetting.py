"""Tickets that ended long ago are forgotten: all of them but one line, and nothing of one that lives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters import keys
from fleet.core.archive import FOLDER
from fleet.core.effects import EffectKind
from fleet.core.events import (
    CancelRequested,
    Heartbeat,
    PauseRequested,
    RetryRequested,
    Source,
    StatusPosted,
)
from fleet.core.gates import Approval
from fleet.core.past import Past
from fleet.core.states import TERMINAL, TRANSITIONS, Reason, State
from fleet.core.ticket import shard_of
from fleet.core.view import TicketView
from fleet.intake.decide import NewTicket, Request, decide
from fleet.intake.service import IntakeService
from fleet.intake.text import clean
from fleet.local import cleaning
from supervisor.archive import Duty, Keeping, duty
from tests.supervisor.archive_room import DAY, Room
from tests.supervisor.world import World
from tests.support.players import CHANGE
from tests.support.tickets import ticket


def forgotten(world: World, folder: Path) -> None:
    """Thirty days after its end nothing of a ticket is in the ledger but one short line; its log still lies aside."""
    room, wanted = Room(world, folder), ticket(label="fleet", trigger="77")
    room.ends(wanted)
    shard = shard_of(wanted.id)
    world.clients["gateway"].hset(keys.spent(wanted.id), "calls", "3")
    world.ledgers["people"].put_approval(Approval(wanted.id, 1, "h" * 40, "ada", 0.0))
    room.passes(29 * DAY)
    assert world.seen(wanted).state is State.CANCELLED and len(room.log(wanted)) == world.seen(wanted).version
    room.passes(2 * DAY)
    assert room.keys_of(wanted) == {f"fleet:{{{shard}}}:past {wanted.id}"}
    assert world.ledgers["people"].view(wanted.id) is None
    assert world.ledgers["intake"].past(wanted.id) == Past("cancelled", wanted.accepted_at, "77")
    assert list(room.folder.rglob(f"*{wanted.id}*/*.gz"))
    assert not list(room.supervisor.views())


@pytest.mark.invariant("I17")
def test_a_ticket_that_ended_long_ago_is_forgotten(world: World, folder: Path) -> None:
    forgotten(world, folder)


def only_forgotten_logs_are_removed(world: World, folder: Path) -> None:
    """What the ledger knows of stays, however old; of what it does not know, what is old."""
    room, wanted = Room(world, folder), ticket()
    room.ends(wanted)
    room.passes(61.0)
    known = room.ledger.all_sealed()
    files = list(room.artifacts.names(FOLDER))
    assert {name for name, _ in files} == known and len(known) == 1
    assert cleaning.unneeded(files, known, before=1e12) == []
    room.passes(31 * DAY)
    assert room.ledger.all_sealed() == set()
    assert cleaning.unneeded(files, set(), before=0.0) == [], "it may just be being stored"
    assert cleaning.unneeded(files, set(), before=1e12) == [files[0][0]]
    assert room.artifacts.remove(files[0][0]) > 100 and not list(room.artifacts.names(FOLDER))
    assert not list(folder.iterdir()), "no empty folders are left"


def test_only_logs_of_forgotten_tickets_are_removed(world: World, folder: Path) -> None:
    only_forgotten_logs_are_removed(world, folder)


def late_words_change_nothing(world: World, folder: Path) -> None:
    """A person, an attempt, a publisher, and its own acceptance once more: all too late."""
    room, wanted = Room(world, folder), ticket()
    room.ends(wanted)
    room.passes(31 * DAY)
    room.passes(0.0)
    assert world.ledgers["people"].view(wanted.id) is None
    kept = len(world.ledgers["people"].quarantine())
    world.players.person(wanted.id, RetryRequested("ada"))
    world.players.attempt_says(wanted.id, 2, Heartbeat(0), CHANGE)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, StatusPosted(99))
    world.players.accept(wanted)
    world.turns(room.supervisor)
    room.supervisor.leave()
    room.supervisor = room.owner("two")
    world.turns(room.supervisor, 3)
    world.players.accept(wanted)
    world.turns(room.supervisor)
    assert world.ledgers["people"].view(wanted.id) is None and not list(room.supervisor.views())
    assert len(world.ledgers["people"].quarantine()) == kept + 6
    assert not world.players.woken or not world.ordered(wanted, EffectKind.START_ATTEMPT)[1:]


@pytest.mark.invariant("I2")
def test_late_words_about_a_forgotten_ticket_are_quarantined(world: World, folder: Path) -> None:
    late_words_change_nothing(world, folder)


def request(label: str = "", trigger: str = "", acted_at: float = 0.0) -> Request:
    text = clean("Ticket 1", "Do it.")
    return Request(
        "local/demo", 1, text, "main", "command:true", "ada", label=label, trigger=trigger, acted_at=acted_at
    )


def the_next_generation(world: World, folder: Path) -> None:
    """The same issue once more: the next number, never one that was; and the old label starts nothing again."""
    room = Room(world, folder)
    intake = IntakeService(world.ledgers["intake"], world.clock)
    first = intake.accept(request("fleet", "77")).ticket
    room.ends(first)
    second = intake.accept(request("fleet", "78")).ticket
    assert second.generation == 2
    room.ends(second)
    room.passes(31 * DAY)
    room.passes(0.0)
    assert not list(world.ledgers["people"].views())
    for trigger, known in (("77", first), ("78", second)):
        again = intake.accept(request("fleet", trigger))
        assert not again.new and again.ticket.id == known.id and again.ticket.branch == known.branch
    third = intake.accept(request())
    assert third.new and third.ticket.generation == 3
    world.turns(room.supervisor)
    assert world.ledgers["people"].view(third.ticket.id) is not None


@pytest.mark.invariant("I2")
def test_generations_are_counted_on_over_forgotten_tickets(world: World, folder: Path) -> None:
    the_next_generation(world, folder)


def live_ones_stay(world: World, folder: Path) -> None:
    """Whatever their age: waiting for a person, in review, at work, or ended with an order that still stands."""
    room = Room(world, folder)
    reviewed, waiting, told_later = ticket(1), ticket(2), ticket(3)
    world.players.accept(reviewed)
    world.until_quiet(room.supervisor)
    world.players.accept(waiting)
    world.turns(room.supervisor, 1)
    world.players.person(waiting.id, PauseRequested("ada"))
    world.turns(room.supervisor)
    world.players.accept(told_later)
    world.until_quiet(room.supervisor)
    world.players.person(told_later.id, CancelRequested("ada"))
    world.turns(room.supervisor)
    for one in (reviewed, waiting):
        # Nothing stands for these any more: only their state keeps them.
        world.players.say("publisher", Source.PUBLISHER, one.id, 1, StatusPosted(99))
    world.turns(room.supervisor)
    before = {one.id: (room.log(one), room.keys_of(one)) for one in (reviewed, waiting, told_later)}
    room.passes(400 * DAY)
    states = [world.seen(one).state for one in (reviewed, waiting, told_later)]
    assert states == [State.IN_REVIEW, State.PARKED, State.CANCELLED]
    for one in (reviewed, waiting, told_later):
        assert (room.log(one), room.keys_of(one)) == before[one.id]
        assert room.stream(one) == len(before[one.id][0])


@pytest.mark.invariant("I1")
def test_nothing_of_a_live_ticket_is_ever_dropped(world: World, folder: Path) -> None:
    live_ones_stay(world, folder)


@pytest.mark.parametrize("state", State)
def test_only_what_ended_is_sealed_or_forgotten_as_a_whole(state: State) -> None:
    view = TicketView(ticket(), state, next(iter(_reasons(state))), since=0.0, version=30)
    found = duty(view, 0, False, 1e9, Keeping())
    assert (found is Duty.SEAL_ALL) == (state in TERMINAL)
    assert (duty(view, 30, False, 1e9, Keeping()) is Duty.FORGET) == (state in TERMINAL)
    assert duty(view, 30, True, 1e9, Keeping()) is None, "an order still stands"
    assert duty(replace(view, since=1e9 - 59), 0, False, 1e9, Keeping()) is None
    assert duty(replace(view, version=2001), 0, True, 1e9, Keeping()) is Duty.SEAL_OLDER


def _reasons(state: State) -> Iterator[Reason]:
    for targets in TRANSITIONS.values():
        yield from targets.get(state, ())


def test_a_wall_clock_that_jumps_back_forgets_nobody(world: World, folder: Path) -> None:
    room, wanted = Room(world, folder), ticket()
    room.ends(wanted)
    world.clock.jump(-400 * DAY)
    room.passes(0.0)
    assert room.stream(wanted) == world.seen(wanted).version


def test_a_request_for_an_issue_that_nobody_remembers_is_the_first_generation() -> None:
    found = decide(request(), lambda _: None, 0.0)
    assert isinstance(found, NewTicket) and found.ticket.generation == 1
