"""The next agent of the route takes over before a person is asked, within the ticket's attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.core.events import AttemptFailed, AttemptStopped, Envelope, GatesFinished, Source, StateChanged
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.ticket import TicketLimits
from fleet.core.view import News, TicketView
from supervisor.decide import decide
from supervisor.decision import Moment
from supervisor.fold import fold, fold_all
from supervisor.policy import Policy
from supervisor.stall import Quiet
from tests.supervisor.test_reds import SAME, hands_over, rounds
from tests.supervisor.test_reds import gated as red
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.players import CHANGE
from tests.support.tickets import ticket

POLICY = Policy()
RED = GatesFinished(1, "h" * 40, "b" * 40, False, "tests: 1 new")
Ends = Callable[[TicketView, int], tuple[TicketView, Moment]]


def fails(kind: FailureClass, said: str = "It does not work.") -> Ends:
    return lambda view, number: (replace(view, news=News(failure=AttemptFailed(kind, said))), Moment(1e9))


def says_another_thing(view: TicketView, number: int) -> tuple[TicketView, Moment]:
    return fails(FailureClass.AGENT_ERROR, "no" * number)(view, number)


def stalls(view: TicketView, number: int) -> tuple[TicketView, Moment]:
    watch = replace(view.watch, begun=True, rung=4, stopping="It stalled.")
    return replace(view, watch=watch, news=News(stopped="handed back", left=0)), Moment(1e9, quiet=Quiet())


def vanishes(view: TicketView, number: int) -> tuple[TicketView, Moment]:
    return view, Moment(1e9, silent=31.0)


def is_red(view: TicketView, number: int) -> tuple[TicketView, Moment]:
    change = replace(CHANGE, tree=f"{number}" * 40)
    return replace(view, state=State.GATING, change=change, news=News(verdict=RED)), Moment(1e9)


def lives(end: Ends, agent: str, route: tuple[str, ...], attempts: int = 9) -> tuple[list[str], TicketView]:
    """Who worked, attempt by attempt, and where it ended, when every attempt ends alike."""
    wanted = ticket(agent=agent, route=route, limits=TicketLimits(attempts=attempts))
    view = TicketView(wanted, State.QUEUED, Reason.ACCEPTED, since=1.0, version=1)
    worked = []
    for number in range(1, 300):
        worked.append(view.agent)
        running = replace(view, state=State.RUNNING, attempt=number, slot=number, news=News(), until=None)
        ended, moment = end(running, number)
        view = step(ended, moment)
        if view.state is not State.BACKING_OFF:
            return worked, view
        view = step(view, replace(moment, now=2e9))
    raise AssertionError("it has no end")


def step(view: TicketView, moment: Moment) -> TicketView:
    decision = decide(view, moment, POLICY)
    assert decision is not None
    event = Envelope("default", view.id, view.attempt, 0, moment.now, decision.event, Source.SUPERVISOR)
    return fold(view, event)


A, B, C, RUFF = "anthropic", "openai", "openai-chat", "command:ruff check --fix ."
TABLE: dict[str, tuple[Ends, str, tuple[str, ...], int, list[str], State]] = {
    "stalls": (stalls, A, (B,), 9, [A, A, B, B, B], State.ESCALATED),
    "fails": (says_another_thing, A, (B, C), 6, [A, A, B, B, C, C], State.ESCALATED),
    "dies": (fails(FailureClass.CRASHED), A, (B,), 9, [A, A, B, B, B], State.ESCALATED),
    "hands nothing over": (fails(FailureClass.NOTHING_CHANGED), A, (B,), 9, [A, A, B, B, B], State.ESCALATED),
    "red": (is_red, A, (B,), 9, [A, A, B, B, B], State.REJECTED),
    # Each gets a turn while there are attempts.
    "few attempts": (stalls, A, (B,), 3, [A, A, B], State.ESCALATED),
    "fewer attempts": (stalls, A, (B, C), 3, [A, B, C], State.ESCALATED),
    "one attempt": (stalls, A, (B,), 1, [A], State.ESCALATED),
    # A command does the same thing again, so nobody waits for that.
    "a command fails": (fails(FailureClass.COMMAND_FAILED), RUFF, (A,), 9, [RUFF, A], State.REJECTED),
    "a command changes nothing": (fails(FailureClass.NOTHING_CHANGED), RUFF, (A,), 9, [RUFF, A, A, A], State.ESCALATED),
    "a command is red": (is_red, RUFF, (A,), 9, [RUFF, A, A, A], State.REJECTED),
    # The machine's fault is not the agent's; but always the same is a reason to try another once.
    "vanishes": (vanishes, A, (B,), 9, [A, A, A, B], State.ESCALATED),
    "vanishes early": (vanishes, A, (B,), 2, [A, A], State.ESCALATED),
    "nobody follows": (stalls, A, (), 9, [A, A, A], State.ESCALATED),
}


@pytest.mark.invariant("I16")
@pytest.mark.invariant("I8")
@pytest.mark.parametrize("name", TABLE)
def test_who_works_and_where_it_ends(name: str) -> None:
    end, agent, route, attempts, expected, last = TABLE[name]
    worked, view = lives(end, agent, route, attempts)
    assert (worked, view.state) == (expected, last)
    assert len(worked) <= attempts


@pytest.mark.parametrize("kind", [FailureClass.PROVIDER_LIMIT, FailureClass.TRANSIENT, FailureClass.HANDED_BACK])
def test_what_only_waits_hands_nothing_on(kind: FailureClass) -> None:
    worked, view = lives(fails(kind), A, (B,))
    assert (set(worked), view.state) == ({A}, State.PARKED)


def test_what_was_held_against_one_is_not_held_against_the_next() -> None:
    _, view = lives(stalls, A, (B,), 3)
    assert (view.agent, view.following, view.failed("stalled")) == (B, (), 0)


@pytest.mark.invariant("I17")
def test_a_change_that_stays_red_is_mended_by_the_next_agent(world: World) -> None:
    """On a real ledger: the event says who takes over, and the change of the one before is in its working copy."""
    wanted = ticket(agent=A, route=(B,), limits=TicketLimits(attempts=9))
    supervisor = world.make()
    world.players.accept(wanted)
    world.turns(supervisor)
    hands_over(world, supervisor, wanted, SAME)
    red(world, supervisor, wanted)
    assert world.seen(wanted).agent == A
    hands_over(world, supervisor, wanted, SAME)
    view = world.seen(wanted)
    assert (view.agent, view.repair, view.tries, rounds(world, wanted)) == (B, 2, 0, 1)
    log = [event for _, event in world.ledgers["people"].log(wanted.id)]
    moves = [event.data for event in log if isinstance(event.data, StateChanged) and event.data.agent]
    assert [(move.agent, move.reason) for move in moves] == [(B, Reason.GATES_RED)]
    assert "Next is openai, after anthropic." in moves[0].detail
    assert fold_all(log) == view


MUTANTS = {
    "tries": Mutant("supervisor.route:_had_its_tries", "view.tries + 1 >= policy.agent_tries", "False"),
    "few attempts": Mutant("supervisor.route:_had_its_tries", "left <= len(view.following)", "False"),
    "used up": Mutant("supervisor.route:passed_on", "if not following or used_up(view):", "if not following:"),
    "anew": Mutant("supervisor.fold:_taken_over", "failures=kept", "failures=moved.failures"),
    "against": Mutant("supervisor.route:passed_on", "reason in AGAINST and _had", "_had"),
    "commands": Mutant("supervisor.retries:_rejected", "return onward or end", "return end"),
}
DEAD = {
    "tries": "stalls",
    "few attempts": "fewer attempts",
    "used up": "one attempt",
    "anew": "stalls",
    "against": "vanishes early",
    "commands": "a command fails",
}


@pytest.mark.parametrize("name", DEAD)
def test_a_rule_switched_off_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name].install(monkeypatch)
    with pytest.raises(AssertionError):
        test_who_works_and_where_it_ends(DEAD[name])


def test_the_end_of_an_attempt_that_was_stopped_is_no_word_of_the_next(world: World) -> None:
    """A late word of the first agent's attempt does not reach the second's."""
    wanted = ticket(agent=A, route=(B,), limits=TicketLimits(attempts=2))
    supervisor = world.make()
    world.running(supervisor, wanted)
    world.players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.AGENT_ERROR, "no idea"))
    world.turns(supervisor, 4)
    assert world.seen(wanted).agent == B
    before = world.seen(wanted)
    world.players.attempt_says(wanted.id, 1, AttemptStopped("failed", 0))
    world.turns(supervisor, 1)
    assert world.seen(wanted).passed_to == before.passed_to
