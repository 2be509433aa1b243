"""The ledger is emptied at every moment of a ticket's life; the forge gives it back, once (I1, I4, I8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.core.errors import FleetError, TemporaryError
from fleet.core.events import BudgetRaised, Envelope, Source
from fleet.core.labels import QUEUED
from fleet.core.sealing import marker, seal, sealed
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from fleet.intake.decide import Request
from fleet.intake.service import Accepted, IntakeService
from fleet.intake.text import IssueText
from supervisor.admission import Caps
from tests.publisher.test_crash import run
from tests.publisher.world import KEY, World
from tests.recovery.stage import MOMENTS, Stage
from tests.support.mutants import Mutant

# Moment → (what the ledger says right before it is lost, how many attempts that counts, how it ends).
WANTED: dict[str, tuple[State, int, State]] = {
    "queued": (State.QUEUED, 1, State.IN_REVIEW),
    "running": (State.RUNNING, 1, State.IN_REVIEW),
    "backing_off": (State.BACKING_OFF, 2, State.IN_REVIEW),
    "gating": (State.GATING, 1, State.IN_REVIEW),
    "pushed": (State.PUBLISHING, 1, State.IN_REVIEW),
    "pr_created": (State.PUBLISHING, 1, State.IN_REVIEW),
    "in_review": (State.IN_REVIEW, 1, State.IN_REVIEW),
    "parked": (State.PARKED, 1, State.PARKED),
    "approval": (State.PARKED, 1, State.IN_REVIEW),
}


def test_every_moment_is_in_the_table() -> None:
    assert set(WANTED) == set(MOMENTS)


def lost_at(world: World, moment: str) -> tuple[Stage, int]:
    """A ticket that got as far as ``moment``, and then the ledger was emptied."""
    stage = Stage(world, caps=Caps(fleet=0) if moment == "queued" else None)
    number = stage.issue()
    stage.until(moment)
    before = stage.view(number)
    if moment in ("pushed", "pr_created"):
        assert run(world, before, crash_at=f"publisher.{moment}") < 0
    assert before.state is WANTED[moment][0]
    assert "fleet" not in stage.labels(number), "the trigger is answered by a state label"
    stage.lose()
    if moment == "queued":
        stage.supervisor = stage.supervise("with places")
    return stage, number


def a_loss(world: World, moment: str) -> None:
    stage, number = lost_at(world, moment)
    stage.until("")
    view = stage.view(number)
    attempts = WANTED[moment][1]
    assert view.recovered is not None and view.recovered.attempts == attempts
    assert view.state is WANTED[moment][2]
    assert (view.ticket.generation, view.ticket.branch) == (1, f"fleet/{number}-mend-it")
    pulls = world.pulls()
    if moment == "parked":
        assert (view.reason, view.detail, view.attempt) == (Reason.CONFIG, "no key for the registry", 1)
        assert pulls == []
        return
    assert len(pulls) == 1, "never a second pull request"
    assert view.pull_request is not None
    assert pulls == [(view.pull_request.number, "open", view.pull_request.head_sha)]
    assert world.branch_at(view.ticket.branch) == view.pull_request.head_sha
    stays = moment in ("in_review", "pr_created")
    assert view.attempt == (attempts if stays else attempts + 1)


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I8")
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_emptied_ledger_is_rebuilt_from_the_forge(world: World, moment: str) -> None:
    a_loss(world, moment)


def test_the_undisturbed_run_ends_the_same(world: World) -> None:
    stage = Stage(world)
    number = stage.issue()
    stage.until("")
    view = stage.view(number)
    assert (view.state, view.attempt, view.recovered) == (State.IN_REVIEW, 1, None)
    assert len(world.pulls()) == 1


MUTANTS = {
    "the pull request is not looked for": (
        Mutant("fleet.intake.rebuild:recovered", "pull is not None and (pull.ours", "False and (pull.ours"),
        "pr_created",
    ),
    "the next attempt is not counted": (
        Mutant("fleet.core.sealing:sealed", "view.attempt + (view.state in _MAY_BEGIN)", "view.attempt"),
        "queued",
    ),
    "counters are reset": (
        Mutant("supervisor.beginning:begun", "attempt=known.attempts", "attempt=0"),
        "running",
    ),
    "the new ledger has no name": (
        Mutant("fleet.adapters.shard_store:ShardStore.announce", "if before and (", "if False and ("),
        "running",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_its_protection_the_loss_is_noticed(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, moment = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises((AssertionError, FleetError)):
        a_loss(world, moment)


@pytest.mark.invariant("I1")
def test_lost_between_the_comment_and_the_label(world: World) -> None:
    """The state label was not put on yet: the trigger still finds the ticket, and it is the same one."""
    stage = Stage(world)
    number = stage.issue()
    stage.until("running")
    hub = world.bob
    hub.swap_labels("ann/demo", number, "fleet", tuple(stage.labels(number)))
    stage.lose()
    stage.until("")
    view = stage.view(number)
    assert (view.ticket.generation, view.attempt, view.state) == (1, 2, State.IN_REVIEW)


@pytest.mark.invariant("I2")
def test_a_ticket_that_had_ended_is_not_revived_and_a_new_label_is_the_next_one(world: World) -> None:
    stage = Stage(world)
    number = stage.issue()
    stage.until("")
    pull = stage.view(number).pull_request
    assert pull is not None
    world.bob.close_pull_request("ann/demo", pull.number)
    stage.until("")
    assert stage.view(number).state is State.CLOSED
    stage.lose()
    stage.until("")
    assert list(world.ledger.views()) == []
    world.bob.swap_labels("ann/demo", number, "fleet", ())
    stage.until("")
    view = stage.view(number)
    assert (view.ticket.generation, view.attempt) == (2, 1), "its number goes on where the lost ledger left it"
    assert view.ticket.branch == f"fleet/{number}.2-mend-it"


def test_looking_twice_takes_up_once(world: World) -> None:
    stage, number = lost_at(world, "running")
    stage.turns()
    assert stage.recovery.look("ann/demo") == 1
    assert stage.recovery.look("ann/demo") == 1, "the supervisor has not heard of it yet"
    stage.turns()
    assert stage.recovery.look("ann/demo") == 0
    assert stage.view(number).attempt in (1, 2)


def test_a_ticket_without_a_label_of_its_own_is_found_too(world: World) -> None:
    """As `fleet run` accepts it: nobody put a label on, so the fleet does."""
    stage = Stage(world)
    number = world.bob.create_issue("ann/demo", "Mend it", "Please.").number
    IntakeService(world.ledger, stage.clock).accept(by_command(number))
    stage.until("running")
    assert stage.labels(number) == {"fleet:working"}
    assert QUEUED != "fleet:working"
    stage.lose()
    stage.until("")
    assert (stage.view(number).state, stage.view(number).attempt) == (State.IN_REVIEW, 2)


def by_command(number: int) -> Request:
    return Request("ann/demo", number, IssueText("Mend it", "Please."), "main", "command:true", "local")


def commanded(stage: Stage, number: int, promised: Callable[[Ticket], None] = lambda _: None) -> Accepted:
    """As `fleet run` does for an issue that is there."""
    service = IntakeService(stage.world.ledger, stage.clock, promised=promised)
    return stage.recovery.accept(service, by_command(number), stage.world.bob.issue("ann/demo", number))


def a_command_before_the_look(world: World) -> None:
    stage, number = lost_at(world, "running")
    accepted = commanded(stage, number, promised=lambda ticket: pytest.fail(f"{ticket.id} is said to be new"))
    assert (accepted.new, accepted.ticket.generation) == (False, 1)
    stage.until("")
    assert [view.id for view in world.ledger.views()] == [accepted.ticket.id]
    view = stage.view(number)
    assert (view.state, view.attempt) == (State.IN_REVIEW, 2), "its counters were not reset"


@pytest.mark.invariant("I8")
def test_a_command_between_the_loss_and_the_look_takes_the_same_ticket_up(world: World) -> None:
    a_command_before_the_look(world)


def test_a_command_that_asks_only_the_ledger_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = Mutant("fleet.intake.recovery:Recovery.accept", "(request, self.known(request.repo, issue))", "(request)")
    blind.install(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        a_command_before_the_look(world)


def test_an_acceptance_that_was_cut_off_is_no_lost_ticket(world: World) -> None:
    """The command died after it told the forge. The ledger never knew the ticket, so nothing was used up."""
    stage = Stage(world)
    number = world.bob.create_issue("ann/demo", "Mend it", "Please.").number

    def died(ticket: Ticket) -> None:
        view = TicketView(ticket, State.QUEUED, Reason.ACCEPTED, 0.0)
        line = sealed(view, incarnation=world.ledger.incarnation(), author="fleet-bot", at=world.clock.now())
        world.hub(world.token).put_comment("ann/demo", number, marker(ticket.id), seal(line, KEY))
        raise TemporaryError("The command was killed.")

    stage.turns()
    with pytest.raises(TemporaryError):
        commanded(stage, number, promised=died)
    world.hub(world.token).swap_labels("ann/demo", number, QUEUED, ())
    assert stage.recovery.look("ann/demo") == 0, "who looks at that moment finds nothing lost"
    again = commanded(stage, number)
    assert (again.new, again.ticket.generation) == (True, 1)
    stage.until("")
    assert (stage.view(number).attempt, stage.view(number).recovered) == (1, None)


def money_that_was_allowed(world: World) -> None:
    stage = Stage(world, agent="anthropic")
    number = stage.issue()
    stage.until("running")
    running = stage.view(number)
    now = stage.clock.now()
    for word in (BudgetRaised("ann", 1.0), BudgetRaised("ann", 3.0)):
        world.ledger.send(Source.PEOPLE, [Envelope("default", running.id, 0, 0, now, word, Source.PEOPLE)])
    stage.turns()
    stage.act()
    stage.lose()
    stage.until("running")
    view = stage.view(number)
    assert view.recovered is not None, "it is not recovered"
    assert (view.raised_usd, view.raised_last) == (4.0, 3.0), "people are asked again"


def test_money_that_was_allowed_stays_allowed(world: World) -> None:
    money_that_was_allowed(world)


def test_money_that_is_not_sealed_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.core.sealing:sealed", "raised_usd=view.raised_usd", "raised_usd=0.0").install(monkeypatch)
    with pytest.raises(AssertionError, match="people are asked again"):
        money_that_was_allowed(world)
