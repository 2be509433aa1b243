"""An agent that asks a person: the ticket waits, nothing counts against it, and the answer is read before all else."""

from __future__ import annotations

import pytest

from fleet.core.effects import EffectKind
from fleet.core.events import AttemptFailed, Envelope, EventData, RetryRequested, Source, SteerRequested
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.view import News, TicketView
from supervisor.decide import decide
from supervisor.decision import Moment, used_up
from supervisor.fold import fold
from supervisor.policy import Policy
from tests.support.tickets import ticket

NOW = Moment(1_700_000_000.0)
QUESTION = "Which of the two formats is right?"
ASKED = AttemptFailed(FailureClass.NEEDS_INPUT, f"The agent asks: {QUESTION}", QUESTION)


def happened(view: TicketView, data: EventData, source: Source) -> TicketView:
    return fold(view, Envelope("default", view.id, view.attempt, 0, NOW.now, data, source))


def decided(view: TicketView) -> TicketView:
    """The view after the next decision, which there must be."""
    decision = decide(view, NOW, Policy())
    assert decision is not None
    return happened(view, decision.event, Source.SUPERVISOR)


def parked() -> TicketView:
    at_work = TicketView(
        ticket(agent="anthropic"),
        State.RUNNING,
        Reason.CLAIMED,
        1.0,
        version=3,
        attempt=1,
        slot=1,
        news=News(failure=ASKED),
    )
    return decided(at_work)


def test_a_question_parks_the_ticket_and_gives_its_place_back() -> None:
    at_work = TicketView(
        ticket(agent="anthropic"),
        State.RUNNING,
        Reason.CLAIMED,
        1.0,
        version=3,
        attempt=1,
        slot=1,
        news=News(failure=ASKED),
    )
    decision = decide(at_work, NOW, Policy())
    assert decision is not None
    assert [order.effect.kind for order in decision.orders] == [EffectKind.RETURN_SLOT]
    view = parked()
    assert (view.state, view.reason) == (State.PARKED, Reason.NEEDS_INPUT)
    assert QUESTION in view.detail
    assert decide(view, NOW, Policy()) is None, "it waits"


def test_the_answer_sends_it_on_and_stands_in_what_the_next_attempt_reads() -> None:
    view = decided(happened(parked(), SteerRequested("ann", "The second one."), Source.PEOPLE))
    assert (view.state, view.reason) == (State.QUEUED, Reason.RESUMED)
    assert QUESTION in view.digest and "ann: The second one." in view.digest
    assert view.steers == (), "it would be told twice"


@pytest.mark.parametrize("state", [State.ESCALATED, State.REJECTED])
def test_what_is_said_to_a_ticket_that_was_given_up_waits_for_the_retry(state: State) -> None:
    ended = TicketView(ticket(agent="anthropic"), state, Reason.POISON, 1.0, version=3, attempt=3)
    told = happened(ended, SteerRequested("ann", "Use the other module."), Source.PEOPLE)
    assert decide(told, NOW, Policy()) is None, "it waits for the retry"
    again = decided(happened(told, RetryRequested("ann"), Source.PEOPLE))
    assert again.state is State.QUEUED and again.steers == ("ann: Use the other module.",)


def test_asking_counts_no_attempt() -> None:
    view = parked()
    assert view.hand_backs == 1 and not used_up(view)
