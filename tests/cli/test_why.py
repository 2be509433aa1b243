"""``fleet show`` begins with *why*: one plain sentence for every state and every reason that the table knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.cli.wording import NEXT, agent_words, became, why
from fleet.core.recovery import Recovered
from fleet.core.states import PARK_REASONS, TRANSITIONS, Reason, State
from fleet.core.view import PullRequest, TicketView, Watch
from tests.support.tickets import ticket

REACHED = sorted(
    {(new, reason) for targets in TRANSITIONS.values() for new, reasons in targets.items() for reason in reasons},
    key=str,
)
AGAIN = {Reason.LOST, Reason.TRANSIENT, Reason.HANDED_BACK, Reason.BASE_MOVED, Reason.HEAD_MOVED, Reason.APPROVED}


def view(state: State, reason: Reason, detail: str = "What happened.") -> TicketView:
    pull = PullRequest(7, "http://forge/pull/7", "h" * 40, "b" * 40)
    return TicketView(
        ticket(), state, reason, 1.0, detail=detail, attempt=1, round=1, until=1_700_000_000.0, pull_request=pull
    )


@pytest.mark.parametrize(("state", "reason"), REACHED)
def test_every_state_and_reason_says_why_and_what_comes_next(state: State, reason: Reason) -> None:
    said = why(view(state, reason), "2 of 2 places are taken")
    assert "\n" not in said and len(said) < 400
    if state in (State.PARKED, State.ESCALATED, State.REJECTED):
        assert "What happened." in said and "Next: " in said and "`fleet " in said
    if state is State.QUEUED:
        assert "2 of 2 places are taken" in said
    if state is State.BACKING_OFF:
        assert "tries again at " in said and "What happened." in said
    if state in (State.GATING, State.PUBLISHING):
        assert (reason in AGAIN) == ("again (" in said)
    if state.terminal or state in (State.PARKED, State.BACKING_OFF):
        assert reason.value.replace("_", " ") in said


def test_a_recovered_ticket_in_doubt_is_not_answered_but_tried_again() -> None:
    """It asked nothing: its comment could not be believed, and its detail says which two ways there are."""
    detail = "The ledger was lost, and it was edited. `fleet retry demo-1` gives it one more try; …"
    known = Recovered(State.PARKED, Reason.NEEDS_INPUT, detail)
    doubted = replace(view(State.PARKED, Reason.NEEDS_INPUT, detail), recovered=known)
    assert "steer" not in why(doubted, "") and f"Next: `fleet retry {doubted.id}`" in why(doubted, "")
    asked = replace(doubted, detail="The agent asks: which one?")
    assert "fleet steer" in why(asked, "")


def test_what_became_of_an_order_is_what_the_ticket_is() -> None:
    """It may have ended in the same moment, or nobody may have read the order yet."""
    assert became(view(State.PARKED, Reason.PAUSED), State.PARKED, Reason.PAUSED, "paused") == "paused"
    asked = became(view(State.PARKED, Reason.BUDGET), State.PARKED, Reason.PAUSED, "paused")
    ended = became(view(State.IN_REVIEW, Reason.PUBLISHED), State.PARKED, Reason.PAUSED, "paused")
    late = became(view(State.RUNNING, Reason.CLAIMED), State.CANCELLED, Reason.CANCELLED_BY_PERSON, "cancelled")
    assert asked == "was not paused: it is parked (budget)"
    assert ended == "was not paused: it is in review (published)"
    assert late == "will be cancelled: it is still running"


def test_every_reason_to_park_has_its_own_way_on() -> None:
    assert set(NEXT) == {reason.value for reason in PARK_REASONS}


@pytest.mark.parametrize("state", State)
def test_without_a_detail_nothing_dangles(state: State) -> None:
    said = why(view(state, Reason.CONFIG, detail=""), "")
    assert ": Next" not in said and not said.endswith(": ") and "  " not in said


def test_an_attempt_that_is_being_ended_is_not_at_work() -> None:
    ending = replace(view(State.RUNNING, Reason.CLAIMED), watch=Watch(begun=True, stopping="The agent stalled (loop)."))
    said = why(ending, "")
    assert "attempt 1 is being ended" in said and said.endswith("nothing of it lives: The agent stalled (loop).")
    passed_to = replace(ending, ticket=ticket(agent="anthropic", route=("openai", "command:true")), passed_to="openai")
    assert agent_words(passed_to) == "openai (took over; anthropic began); then command:true"
    assert agent_words(view(State.RUNNING, Reason.CLAIMED)) == "command:true"
