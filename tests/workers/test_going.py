"""A worker of the queue ``agents`` that was told to go: it begins no attempt, and leaves those that live (I18)."""

from __future__ import annotations

import threading

import pytest

from fleet.adapters.acl import Role
from fleet.core.effects import Effect, EffectKind
from fleet.core.ports import Launcher
from fleet.core.states import State
from fleet.core.ticket import Ticket
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually
from tests.workers.kit import CLOCK, Attempts
from tests.workers.test_ledger import Fleet, attempts, fleet, server
from workers.tasks import AgentTasks

pytestmark = pytest.mark.needs("bwrap")

__all__ = ["attempts", "fleet", "server"]


def tasks(fleet: Fleet, launcher: Launcher, told: threading.Event) -> AgentTasks:
    return AgentTasks(fleet.ledger(Role.AGENTS), launcher, CLOCK, "here", told.is_set)


def ordered(fleet: Fleet, attempts: Attempts) -> Ticket:
    """A ticket whose first attempt is ordered, and nobody is there who takes it."""
    one = ticket(agent="command:sleep 3457")
    fleet.start(attempts.launcher)
    fleet.tasks = None
    fleet.accept(one)
    order = Effect(EffectKind.START_ATTEMPT, one.id, 1)
    agents = fleet.ledger(Role.AGENTS)
    assert eventually(lambda: agents.outbox(order.id, one.id) is not None, 20)
    return one


def goes(fleet: Fleet, attempts: Attempts) -> None:
    told = threading.Event()
    told.set()
    one = ordered(fleet, attempts)
    goes_now = tasks(fleet, attempts.launcher, told)
    try:
        assert goes_now.attempt(one.id, 1) == "not begun on here, which stops"
        assert attempts.launcher.live() == ()
        stays = threading.Event()
        waiting = threading.Thread(target=tasks(fleet, attempts.launcher, stays).attempt, args=(one.id, 1))
        waiting.start()
        assert fleet.reaches(one, State.RUNNING), "the order was still to be had"
        (live,) = attempts.launcher.live()
        stays.set()  # the wait of the other one ends, too
        assert eventually(lambda: not waiting.is_alive(), 20), "a worker that goes waits for no attempt"
        assert goes_now.attempt(one.id, 1) == "left running on here"
        assert attempts.launcher.live() == (live,), "it lives on"
    finally:
        for live in attempts.launcher.live():
            attempts.launcher.kill(live)


@pytest.mark.invariant("I18")
def test_a_worker_that_was_told_to_go_begins_no_attempt_and_ends_none(fleet: Fleet, attempts: Attempts) -> None:
    goes(fleet, attempts)


@pytest.mark.invariant("I18")
@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("workers.tasks:AgentTasks.attempt", "if self._stopping():", "if False:"),
        Mutant("workers.tasks:AgentTasks.wait", "if self._stopping():", "if not self._launcher.kill(live):"),
    ],
    ids=["begins after its signal", "takes its attempt with it"],
)
def test_a_worker_that_goes_badly_is_noticed(
    fleet: Fleet, attempts: Attempts, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    mutant.install(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        goes(fleet, attempts)
