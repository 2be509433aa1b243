"""The bundle of evidence: everything that was tried, also by another agent, and what a person can do now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.artifacts import FolderArtifacts
from fleet.cli.story import lines
from fleet.core.budget import Cost
from fleet.core.codec import decode, encode
from fleet.core.events import AttemptStarted, Envelope, EventData, GateFinished, Source
from fleet.core.states import Reason, State
from fleet.core.story import story
from fleet.core.view import TicketView
from fleet.publisher import escalation, texts
from fleet.publisher.escalation import Escalation
from tests.cli.test_story import CHANGE, HOSTILE, log
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

NONE = FolderArtifacts(Path("/nonexistent"))
LOG = f"E   assert 5 == 4\n{HOSTILE}"


def relay() -> list[Envelope]:
    """The story's log, with who worked and what the red gate printed."""
    name = ticket().id

    def said(at: float, attempt: int, data: EventData, source: Source = Source.ATTEMPTS) -> Envelope:
        return Envelope("default", name, attempt, 0, 1000.0 + at, data, source)

    events = [event for event in log() if not isinstance(event.data, GateFinished)]
    gate = said(7, 1, GateFinished(1, "tests", "tests", "failed", 1.0, HOSTILE, LOG), Source.GATES)
    at = next(n for n, event in enumerate(events) if event.at > 1007.0)
    events.insert(at, gate)
    events.insert(1, said(0.5, 1, AttemptStarted("h", 1, "anthropic", "i")))
    events.append(said(10.5, 2, AttemptStarted("h", 2, "openai:big", "i")))
    return events


def escalated(label: str = "") -> TicketView:
    wanted = ticket(agent="anthropic", route=("openai:big",), label=label)
    return TicketView(
        wanted, State.ESCALATED, Reason.ATTEMPTS_USED_UP, 0.0, attempt=2, detail="It gave up.",
        passed_to="openai:big", cost=Cost(0.03, 10, 12, 2), failures=(("gates_red", 1),),
    )  # fmt: skip


def kept(attempt: int) -> str:
    return f"tickets/x/{attempt}/{'change' if attempt == 1 else 'partial'}.bundle"


def test_it_holds_every_attempt_with_its_end_its_evidence_and_its_price() -> None:
    found = escalation.bundle(escalated(), story(relay()), kept)
    assert decode(encode(found), Escalation) == found
    assert found.agents == ("anthropic", "openai:big")
    first, second = found.attempts
    assert (first.agent, first.ended, first.commit, first.tree) == (
        "anthropic",
        "gates_red",
        CHANGE.commit,
        CHANGE.tree,
    )
    assert first.refused_by == (f"tests: {HOSTILE}",)
    assert first.digest == LOG
    assert (first.kept, second.kept) == (kept(1), kept(2))
    assert (second.agent, second.ended, second.digest.splitlines()[0]) == ("openai:big", "attempts_used_up", "line one")
    assert (round(first.cost.usd, 4), found.cost.usd) == (0.03, 0.03)


def test_the_issue_says_who_tried_what_is_kept_and_what_to_do() -> None:
    view = escalated("fleet")
    text = texts.status_comment(view, "<!-- -->", attempts=story(relay()), kept=kept)
    assert "| 2 files, +10 −3 | `anthropic` |" in text
    assert "| unfinished, kept | `openai:big` |" in text
    assert f"`fleet retry {view.id}`" in text
    assert "put the label `fleet` on again" in text
    outside = "".join(part for n, part in enumerate(text.split("`")) if n % 2 == 0)
    for active in ("@bob", "](http", "</details>", "#1 "):
        assert active not in outside, active


def test_a_change_that_was_not_gated_again_is_told_with_what_refused_it_before() -> None:
    """The last attempt handed the same over: no gate ran on it, and what a gate said stands with an earlier one."""
    again = replace(story(relay())[1], ended="poison", digest="", red=())
    text = texts.status_comment(escalated(), "<!-- -->", attempts=[story(relay())[0], again], kept=kept)
    assert f"Attempt 1 was refused by:\n- `tests: {HOSTILE[:10]}" in text
    assert "What attempt 1 ended with:" in text and "`E assert 5 == 4`" in text
    shown = list(lines(escalated(), [story(relay())[0], again], NONE))
    assert "what attempt 1 said last:" in shown and "    E   assert 5 == 4" in shown


def test_an_agent_that_listens_is_told_what_was_missing() -> None:
    view = escalated("fleet")
    told = texts.status_comment(view, "<!-- -->", attempts=story(relay()), kept=kept)
    assert f'`fleet steer {view.id} "…"`' in told and "`/fleet steer …`" in told and "`/fleet retry`" in told
    command = replace(view, ticket=ticket(agent="command:true"), passed_to="")
    text = texts.status_comment(command, "<!-- -->", attempts=story(relay()), kept=kept)
    assert "fleet steer" not in text and f"`fleet retry {view.id}`" in text
    assert "/fleet" not in text, "nobody looks at the comments of a repository that is not watched"


def test_what_goes_on_says_nothing_of_giving_up() -> None:
    view = TicketView(ticket(), State.PARKED, Reason.CONFIG, 0.0, attempt=2)
    text = texts.status_comment(view, "<!-- -->", attempts=story(relay()), kept=kept)
    assert "What you can do" not in text


def test_of_a_ticket_that_was_asked_for_for_ever_the_newest_attempts_are_kept() -> None:
    many = [replace(story(relay())[0], number=number) for number in range(1, 203)]
    found = escalation.bundle(escalated(), many, kept)
    assert [one.attempt for one in found.attempts] == list(range(103, 203))


HOLDS = test_it_holds_every_attempt_with_its_end_its_evidence_and_its_price
SAYS = test_the_issue_says_who_tried_what_is_kept_and_what_to_do
NEWEST = test_of_a_ticket_that_was_asked_for_for_ever_the_newest_attempts_are_kept
BEFORE = test_a_change_that_was_not_gated_again_is_told_with_what_refused_it_before
LISTENS = test_an_agent_that_listens_is_told_what_was_missing
MUTANTS = {
    "everybody who worked": Mutant(
        "fleet.publisher.escalation:bundle", "for one in told if one.agent", "for one in told[-1:]", HOLDS
    ),
    "every attempt": Mutant("fleet.publisher.escalation:bundle", "told[-_MOST_ATTEMPTS:]", "told[-1:]", HOLDS),
    "never more than a hundred": Mutant("fleet.publisher.escalation:bundle", "told[-_MOST_ATTEMPTS:]", "told", NEWEST),
    "the newest": Mutant("fleet.publisher.escalation:bundle", "[-_MOST_ATTEMPTS:]", "[:_MOST_ATTEMPTS]", NEWEST),
    "what an attempt left": Mutant("fleet.publisher.escalation:bundle", "kept(one.number)", '""', HOLDS),
    "the price of all": Mutant("fleet.publisher.escalation:bundle", "cost=view.cost", "cost=Cost()", HOLDS),
    "the price of each": Mutant("fleet.publisher.escalation:_tried", "cost=one.cost", "cost=Cost()", HOLDS),
    "what refused it": Mutant("fleet.publisher.escalation:_tried", "refused_by=one.red", "refused_by=()", HOLDS),
    "why it failed": Mutant("fleet.publisher.escalation:_tried", "digest=one.digest", 'digest=""', HOLDS),
    "which commit": Mutant("fleet.publisher.escalation:_tried", "commit=change.commit", 'commit=""', HOLDS),
    "words show, and do nothing": Mutant(
        "fleet.publisher.markdown:code", 'f"{fence}{pad}{inner}{pad}{fence}"', "inner", SAYS
    ),
    "whose words are read": Mutant("fleet.core.story:telling", "one.red or one.digest", "True", BEFORE),
    "who can be told": Mutant("fleet.publisher.attempts:next_lines", "if view.listens:", "if True:", LISTENS),
    "what a person can do": Mutant("fleet.publisher.attempts:next_lines", 'yield "What', 'return; yield "What', SAYS),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_evidence_that_is_withheld_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises((AssertionError, ValueError)):
        mutant.scenario()
