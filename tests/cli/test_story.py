"""The story of a ticket's attempts, told from its log; and how people read it, escaped."""

from __future__ import annotations

from pathlib import Path

from fleet.adapters.artifacts import FolderArtifacts
from fleet.cli.story import lines, rows
from fleet.core.budget import Cost
from fleet.core.events import (
    AttemptFailed,
    ChangeReady,
    Envelope,
    EventData,
    GateFinished,
    Nudged,
    Rung,
    Source,
    StateChanged,
    ToolFinished,
    TurnFinished,
)
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.story import story
from fleet.core.view import TicketView
from fleet.publisher import texts
from tests.support.tickets import ticket

HOSTILE = "</details> @bob ![x](http://evil) fixes #1 \x1b[2J | pipe"
CHANGE = ChangeReady("b", "c" * 40, "t" * 40, "b" * 40, 2, 10, 3)


def log() -> list[Envelope]:
    """Two attempts: one whose change the gates refused, one that an agent's error ended."""
    name, found = ticket().id, list[Envelope]()

    def add(at: float, attempt: int, data: EventData, source: Source = Source.ATTEMPTS) -> None:
        found.append(Envelope("default", name, attempt, 0, 1000.0 + at, data, source))

    own = Source.SUPERVISOR
    add(0, 0, StateChanged(State.STARTING, Reason.GRANTED, attempt=1), own)
    add(1, 1, StateChanged(State.RUNNING, Reason.CLAIMED), own)
    add(2, 1, TurnFinished(1, Cost(0.01, 5, 6, 1)))
    add(3, 1, ToolFinished("1", "d", 0, 5))
    add(4, 1, TurnFinished(2, Cost(0.02, 5, 6, 1)))
    add(5, 1, CHANGE)
    add(6, 1, StateChanged(State.GATING, Reason.CHANGE_READY), own)
    add(7, 1, GateFinished(1, "tests", "tests", "failed", 1.0, HOSTILE), Source.GATES)
    add(9, 1, StateChanged(State.BACKING_OFF, Reason.GATES_RED, "1 new failure"), own)
    add(9, 1, StateChanged(State.QUEUED, Reason.RETRY_DUE), own)
    add(10, 1, StateChanged(State.STARTING, Reason.GRANTED, attempt=2), own)
    add(11, 2, Nudged(Rung.NUDGE, "loop", "stop that"), own)
    add(12, 2, AttemptFailed(FailureClass.AGENT_ERROR, "It gave up.", f"line one\n{HOSTILE}"))
    add(14, 2, StateChanged(State.ESCALATED, Reason.ATTEMPTS_USED_UP, "It gave up."), own)
    return found


def test_each_attempt_is_told_with_its_end_and_what_it_cost() -> None:
    first, second = story(log())
    assert (first.number, first.ended, first.seconds, first.turns, first.calls) == (1, "gates_red", 9.0, 2, 1)
    assert (first.change, round(first.cost.usd, 4), first.cost.model_calls) == (CHANGE, 0.03, 2)
    assert first.red == (f"tests: {HOSTILE}",)
    assert (second.ended, second.detail, second.nudges) == ("attempts_used_up", "It gave up.", 1)
    assert second.digest.startswith("line one")
    assert story(log()[:3])[0].ended == "", "a live attempt has no end"
    assert story([]) == ()


def test_show_lists_the_attempts_and_how_to_fetch_what_they_left(tmp_path: Path) -> None:
    artifacts = FolderArtifacts(tmp_path)
    view = TicketView(ticket(), State.ESCALATED, Reason.ATTEMPTS_USED_UP, 0.0, attempt=2, detail="It gave up.")
    artifacts.put(f"tickets/{view.id}/1/change.bundle", b"x")
    artifacts.put(f"tickets/{view.id}/2/partial.bundle", b"x")
    text = "\n".join(lines(view, story(log()), artifacts))
    assert "attempt 1  gates red, 9.0 s, 2 turns, 1 tool call, $0.0300" in text
    assert f"change kept: git fetch {tmp_path}/tickets/{view.id}/1/change.bundle refs/fleet/change:" in text
    assert f"unfinished change kept: git fetch {tmp_path}/tickets/{view.id}/2/partial.bundle" in text
    assert "what attempt 2 said last:\n    line one" in text
    row = rows(view, story(log()), artifacts)[1]
    assert (row["ended"], row["nudges"], row["bundle"]) == (
        "attempts_used_up",
        1,
        f"{tmp_path}/tickets/{view.id}/2/partial.bundle",
    )


def test_the_status_comment_of_an_escalation_carries_the_evidence_escaped() -> None:
    view = TicketView(ticket(), State.ESCALATED, Reason.ATTEMPTS_USED_UP, 0.0, attempt=2, detail="It gave up.")
    text = texts.status_comment(view, "<!-- -->", attempts=story(log()))
    assert "| 1 | `gates red` | 9 s | 2 | $0.0300 | 2 files, +10 −3 |" in text
    assert "`line one`" in text
    assert f"`fleet show {view.id}`" in text
    assert "\x1b" not in text
    outside = "".join(part for n, part in enumerate(text.split("`")) if n % 2 == 0)
    for active in ("@bob", "](http", "</details>", "#1 "):
        assert active not in outside, active


def test_what_an_attempt_says_after_its_end_is_not_its_failure() -> None:
    late = AttemptFailed(FailureClass.CANCELLED, "The agent was stopped.")
    told = story([*log(), Envelope("default", ticket().id, 2, 9, 1015.0, late, Source.ATTEMPTS)])
    assert told[-1].digest.startswith("line one")
