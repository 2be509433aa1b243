"""A gates' worker that was told to go: it begins nothing, and hands back the rounds it cannot end (I18)."""

from __future__ import annotations

import threading

import pytest

from fleet.core.effects import EffectKind
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from tests.gates.test_runs import CODE
from tests.gates.test_tasks import Stage, clients, server, stage
from tests.support.mutants import Mutant

pytestmark = [pytest.mark.needs("bwrap")]

__all__ = ["clients", "server", "stage"]


def handed_back(stage: Stage) -> None:
    """The worker must go while gates run: the round is ordered again, and its first run goes on to nobody's harm."""
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    begun, go_on = threading.Event(), threading.Event()

    def fetch_base(_: Ticket) -> str:
        begun.set()
        assert go_on.wait(30)
        return stage.base

    stage.tasks._fetch_base = fetch_base
    running = threading.Thread(target=stage.run, args=(order,))
    running.start()
    try:
        assert begun.wait(30)
        assert stage.tasks.hand_back() == (order.id,)
        view = stage.seen()
        assert (view.state, view.reason, view.turn) == (State.GATING, Reason.HANDED_BACK, order.turn + 1)
        assert (view.attempt, view.failed("lost"), view.failed("transient")) == (1, 0, 0)
    finally:
        go_on.set()
        running.join(60)
    assert stage.tasks.hand_back() == (), "it has told its end"
    stage.run(stage.fleet.ordered(stage.ticket, EffectKind.RUN_GATES)[-1])
    assert stage.seen().state is State.PUBLISHING


@pytest.mark.invariant("I18")
def test_a_round_whose_worker_must_go_is_handed_back(stage: Stage) -> None:
    handed_back(stage)


@pytest.mark.invariant("I18")
@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("fleet.adapters.teller:Teller.owing", "self._owed[order.id] = (view, order)", "pass"),
        Mutant("ci_gates.tasks:GateTasks.hand_back", ", handed_back=True", ""),
    ],
    ids=lambda mutant: mutant.where,
)
def test_a_round_that_is_not_handed_back_is_noticed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        handed_back(stage)


def nothing_begins(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    stage.tasks._stopping = lambda: True
    stage.run(order)
    assert stage.fleet.ledgers["gates"].begin("gates", order, "another worker"), "the order is still to be had"


@pytest.mark.invariant("I18")
def test_a_worker_that_was_told_to_go_begins_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_begins(stage)


@pytest.mark.invariant("I18")
def test_a_worker_that_begins_after_its_signal_is_noticed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("ci_gates.tasks:GateTasks.run", "or self._stopping()", "").install(monkeypatch)
    with pytest.raises(AssertionError):
        nothing_begins(stage)
