"""The transition table: complete, reachable, and the only judge."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from fleet.core.errors import InternalError
from fleet.core.events import Envelope, Source, StateChanged, TicketAccepted
from fleet.core.states import PARK_REASONS, TERMINAL, TRANSITIONS, Reason, State, allowed, check, mermaid
from fleet.core.view import TicketView
from supervisor.fold import fold
from tests.support.tickets import ticket

EVERY = list(itertools.product(State, State, Reason))
LISTED = [(old, new, why) for old, new, why in EVERY if allowed(old, new, why)]


def moved(old: State, new: State, why: Reason) -> TicketView:
    view = TicketView(ticket(), old, Reason.ACCEPTED, since=1.0, version=5, attempt=1)
    event = Envelope("default", view.id, 1, 0, 2.0, StateChanged(new, why, attempt=2), Source.SUPERVISOR)
    return fold(view, event)


@pytest.mark.invariant("I17")
def test_every_listed_transition_folds() -> None:
    for old, new, why in LISTED:
        after = moved(old, new, why)
        assert (after.state, after.reason, after.version) == (new, why, 6)
    assert len(LISTED) > 60


@pytest.mark.invariant("I17")
def test_every_unlisted_transition_raises() -> None:
    unlisted = [one for one in EVERY if one not in set(LISTED)]
    for old, new, why in unlisted:
        with pytest.raises(InternalError, match="is not in the table"):
            moved(old, new, why)
    assert len(unlisted) + len(LISTED) == len(State) ** 2 * len(Reason)


def test_a_ticket_begins_in_one_way_only() -> None:
    first = Envelope("default", ticket().id, 0, 0, 1.0, TicketAccepted(ticket()), Source.INTAKE)
    assert fold(None, first).state is State.QUEUED
    for new, why in itertools.product(State, Reason):
        first_of_all = new is State.QUEUED and why in (Reason.ACCEPTED, Reason.RECOVERED)
        assert allowed(None, new, why) == first_of_all
    with pytest.raises(InternalError, match="before the ticket"):
        fold(None, Envelope("default", "x", 0, 0, 1.0, StateChanged(State.QUEUED, Reason.ACCEPTED), Source.SUPERVISOR))


def test_every_state_is_reachable_and_none_is_a_trap() -> None:
    def reach(start: State | None) -> set[State]:
        found: set[State] = set()
        edge = [start]
        while edge:
            for new in TRANSITIONS.get(edge.pop(), {}):
                if new not in found:
                    found.add(new)
                    edge.append(new)
        return found

    assert reach(None) == set(State)
    for state in State:
        assert state.terminal or State.CANCELLED in reach(state), f"nobody can end a ticket in {state.value}"


def test_every_reason_stands_in_the_table() -> None:
    used = set().union(*(reasons for targets in TRANSITIONS.values() for reasons in targets.values()))
    assert used == set(Reason)


def test_parking_has_reasons_of_its_own() -> None:
    for targets in TRANSITIONS.values():
        assert targets.get(State.PARKED, PARK_REASONS) == PARK_REASONS
        for state, reasons in targets.items():
            assert state is State.PARKED or not reasons & PARK_REASONS


def test_terminal_active_and_waiting_split_the_states() -> None:
    assert {state for state in State if state.active} | TERMINAL | {State.PARKED, State.IN_REVIEW} == set(State)
    assert not any(state.active and state.terminal for state in State)


def test_the_diagram_draws_the_table_and_nothing_else() -> None:
    drawn = set()
    for line in mermaid().splitlines()[1:]:
        match = re.fullmatch(r"    (\S+) --> (\S+?)(?:: (.+))?", line)
        assert match, line
        drawn |= {(match[1], match[2], why) for why in (match[3] or "").split(", ")}
    listed = {(old.value, new.value, why.value) for old, new, why in LISTED}
    listed |= {("[*]", "queued", why) for why in ("accepted", "recovered")} | {
        (state.value, "[*]", "") for state in TERMINAL
    }
    assert drawn == listed


def test_the_docs_show_the_diagram_of_the_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "states.md"
    if page.exists():
        assert mermaid() in page.read_text()
    check(None, State.QUEUED, Reason.ACCEPTED)
