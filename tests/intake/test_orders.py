"""What is promised to the writer of an order is what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.core.events import StateChanged, Verb
from fleet.core.forge import Comment
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.intake import orders
from supervisor.decide import decide
from supervisor.decision import Moment
from supervisor.policy import Policy
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

VIEW = TicketView(ticket(agent="anthropic"), State.RUNNING, Reason.CLAIMED, since=1.0, attempt=1)
COMMENT = Comment(5, VIEW.ticket.number, "bob", "", 1.0)


@pytest.mark.parametrize("state", [State.IN_REVIEW, State.MERGED, State.CLOSED, State.CANCELLED])
def test_words_that_nobody_will_read_are_refused(state: State) -> None:
    for_nobody = replace(VIEW, state=state, reason=Reason.PUBLISHED)
    answer = orders.heard(COMMENT, orders.Order(Verb.STEER, "use the other module"), for_nobody)
    assert not answer.done and "nobody can be told" in answer.answer


@pytest.mark.parametrize("state", State)
def test_pausing_is_promised_only_where_it_is_done(state: State) -> None:
    asked = replace(VIEW, state=state, reason=Reason.CLAIMED, news=replace(VIEW.news, pause_by="bob"))
    answer = orders.heard(COMMENT, orders.Order(Verb.PAUSE), replace(VIEW, state=state, reason=Reason.CLAIMED))
    decision = decide(asked, Moment(1.0), Policy())
    pauses = (
        decision is not None and isinstance(decision.event, StateChanged) and decision.event.reason is Reason.PAUSED
    )
    assert answer.done == pauses == state.pausable


def test_words_for_nobody_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.intake.orders:heard", "not view.listens or not", "not").install(monkeypatch)
    with pytest.raises(AssertionError):
        test_words_that_nobody_will_read_are_refused(State.MERGED)


def test_a_pause_that_is_only_promised_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.intake.orders:heard", "view.state.pausable", "view.state.active").install(monkeypatch)
    with pytest.raises(AssertionError):
        test_pausing_is_promised_only_where_it_is_done(State.PUBLISHING)
