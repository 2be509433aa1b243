"""Null workers leave out the work, never the rules: without records there is no pass, and without a pass no result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.bench import null
from fleet.core.errors import InternalError
from fleet.core.events import ChangeReady, Published, PublishFailed
from fleet.core.gates import GatePass, NoPass, Outcome, make_pass
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from tests.support.tickets import ticket

CHANGE = ChangeReady("null", "1" * 40, "2" * 40, "3" * 40, 1, 1, 1)


def view() -> TicketView:
    return TicketView(ticket(7), State.GATING, Reason.CHANGE_READY, since=0.0, attempt=1, round=1, change=CHANGE)


def test_the_records_of_null_gates_make_a_real_pass() -> None:
    plan, records = null.records(view(), 1, 1, CHANGE)
    proof = make_pass(plan, records, CHANGE.commit)
    assert isinstance(proof, GatePass)
    assert not proof.no_tests_ran
    assert null.outcome(view(), 1, proof) == Published(7, "http://localhost/7", CHANGE.commit, CHANGE.base_sha)


@pytest.mark.invariant("I5")
def test_a_missing_or_red_record_publishes_nothing() -> None:
    plan, records = null.records(view(), 1, 1, CHANGE)
    for bad in (records[:-1], [replace(records[0], outcome=Outcome.FAILED), *records[1:]]):
        proof = make_pass(plan, bad, CHANGE.commit)
        assert isinstance(proof, NoPass)
        assert isinstance(null.outcome(view(), 1, proof), PublishFailed)


@pytest.mark.invariant("I5")
def test_the_pass_of_another_ticket_is_refused() -> None:
    plan, records = null.records(view(), 1, 1, CHANGE)
    other = replace(view(), ticket=ticket(8))
    with pytest.raises(InternalError, match="is not one of"):
        null.outcome(other, 1, make_pass(plan, records, CHANGE.commit))
