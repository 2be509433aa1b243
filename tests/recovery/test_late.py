"""What was under way when the ledger was lost reaches the forge, or a trace on disk, later than the look (I1, I8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.layout import Layout
from fleet.core.forge import Issue
from fleet.core.journal import Used
from fleet.core.sealing import sealed
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.intake import rebuild
from fleet.intake.recovery import Recovery
from fleet.intake.text import IssueText
from fleet.local.attempts import highest_begun
from tests.publisher.world import KEY, REPO, World
from tests.recovery.stage import LIMITS, Stage
from tests.support.mutants import Mutant
from tests.support.tickets import ticket


# --- a comment that comes later than the look --------------------------------------------------------------------
def a_late_comment(world: World) -> None:
    """Rejected, and a person asked again. Ledger and publisher knew that, and the forge hears of it after the loss."""
    stage = Stage(world)
    number = stage.issue()
    stage.until("running")
    running = stage.view(number)
    forge = world.publisher()
    forge.status(replace(running, state=State.REJECTED, reason=Reason.GATES_RED))
    stage.lose()
    stage.turns()
    stage.sweep.once()
    assert list(world.ledger.views()) == [], "it had ended"
    forge.status(replace(running, attempt=2))
    stage.clock.advance(16.0)
    stage.sweep.once()
    stage.until("")
    view = stage.view(number)
    assert (view.state, view.attempt, view.ticket.generation) == (State.IN_REVIEW, 3, 1), "nobody looked again"


@pytest.mark.invariant("I1")
def test_a_ticket_whose_comment_comes_late_is_found_by_a_later_look(world: World) -> None:
    a_late_comment(world)


def test_a_single_look_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.intake.recovery:_Look.done", "now + self.pauses[0] if self.pauses else ", "").install(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        a_late_comment(world)


def test_the_looks_come_to_an_end(world: World) -> None:
    stage = Stage(world)
    stage.turns()
    for _ in range(6):
        stage.recovery.once()
        stage.clock.advance(1000.0)
    before = len(world.forge.seen)
    stage.clock.advance(100_000.0)
    stage.recovery.once()
    assert len(world.forge.seen) == before


# --- the last attempt ----------------------------------------------------------------------------------------------
def one_that(state: State, attempt: int, **changes: object) -> TicketView:
    view = TicketView(ticket(), state, Reason.LOST, since=0.0, attempt=attempt)
    return replace(view, **changes)  # type: ignore[arg-type]


def goes_to(view: TicketView) -> State:
    issue = Issue(view.ticket.number, view.ticket.title, view.ticket.body, True, "bob", (), "")
    line = sealed(view)
    again = rebuild.ticket_of(line, issue, IssueText(view.ticket.title, view.ticket.body))
    found = rebuild.recovered(line, again, None, 5.0)
    assert found is not None
    return found.state


def the_last_attempt() -> None:
    most = ticket().limits.attempts
    for state in (State.QUEUED, State.BACKING_OFF):
        assert goes_to(one_that(state, most - 1)) is State.PARKED, "its last attempt may have begun already"
        assert goes_to(one_that(state, most - 2)) is State.QUEUED
        assert goes_to(one_that(state, most - 1, hand_backs=1)) is State.QUEUED, "what is handed back does not count"
    assert goes_to(one_that(State.RUNNING, most)) is State.PARKED
    assert goes_to(one_that(State.RUNNING, most - 1)) is State.QUEUED


@pytest.mark.invariant("I8")
def test_a_recovered_ticket_has_no_attempt_beyond_its_limit() -> None:
    the_last_attempt()


def test_one_attempt_too_many_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant(
        "fleet.intake.rebuild:recovered",
        "if sealed.attempts - sealed.hand_backs >=",
        "if state is State.RUNNING and sealed.attempts - sealed.hand_backs >=",
    ).install(monkeypatch)
    with pytest.raises(AssertionError, match="may have begun already"):
        the_last_attempt()


def an_uncounted_attempt(world: World, begun: Callable[[str], int]) -> None:
    """The second attempt was at work, and the comment still counted one."""
    stage = Stage(world)
    number = stage.issue()
    stage.until("running")
    assert stage.view(number).attempt == 1
    stage.lose()
    stage.turns()
    agent, limits = lambda repo: stage.agent, lambda repo, branch: LIMITS
    bot = world.hub(world.token)
    assert Recovery(world.ledger, bot, stage.clock, KEY, lambda: (REPO,), agent, limits, begun).once() == 1
    stage.until("")
    assert stage.view(number).attempt == 3, "an attempt was not counted"


@pytest.mark.invariant("I8")
def test_an_attempt_that_no_comment_counted_left_a_trace(world: World, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home", 1000)

    def begun(name: str) -> int:
        (layout.attempts / f"{name}.2").mkdir(parents=True, exist_ok=True)
        return highest_begun(layout, name)

    an_uncounted_attempt(world, begun)
    with pytest.raises(AssertionError):
        an_uncounted_attempt(world, lambda name: 0)


def test_what_an_attempt_leaves_counts(tmp_path: Path) -> None:
    layout = Layout(tmp_path, 1000)
    assert highest_begun(layout, "demo-1-abc") == 0
    for folder in (
        layout.attempts / "demo-1-abc.1",
        layout.attempts / "demo-1-abcd.9",
        layout.artifacts / "tickets" / "demo-1-abc" / "3",
        layout.artifacts / "tickets" / "demo-1-abc" / "sealed",
    ):
        folder.mkdir(parents=True)
    assert highest_begun(layout, "demo-1-abc") == 3


def an_untold_spend(world: World) -> None:
    """Models were asked since the last comment, which counts half a dollar at the most."""
    stage = Stage(world, agent="anthropic")
    number = stage.issue()
    stage.until("running")
    stage.lose()
    stage.turns()
    place = (lambda: (REPO,), lambda repo: stage.agent, lambda repo, branch: LIMITS)
    spent = Used(1_500_000, 40, 3_000_000)
    bot = world.hub(world.token)
    assert Recovery(world.ledger, bot, stage.clock, KEY, *place, spent=lambda name: spent).once() == 1
    stage.turns()
    known = stage.view(number).recovered
    assert known is not None
    assert (known.usd, known.model_calls, known.tokens) == (1.5, 40, 3_000_000), "what was spent is forgotten"
    assert {one.usd for one in world.ledger.recovered().values()} == {1.5}


@pytest.mark.invariant("I8")
def test_what_no_comment_told_of_is_spent_all_the_same(world: World) -> None:
    an_untold_spend(world)


def test_a_recovery_that_believes_the_comment_alone_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = Mutant("fleet.intake.rebuild:at_least", "max(sealed.usd, spent.micros / MICRO)", "sealed.usd")
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError, match="is forgotten"):
        an_untold_spend(world)
