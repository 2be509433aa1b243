"""What becomes of each ticket if nothing goes wrong outside: how agents behave, what gates say, what people want."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.core.events import AgentStarted, AttemptFailed, EventData, ModelAsked, Note, ToolFinished, ToolStarted
from fleet.core.retry import FailureClass
from fleet.core.ticket import Ticket, TicketLimits, branch_name, text_hash, ticket_id
from fleet.simulate.chance import Chance
from fleet.simulate.timeline import EPOCH

LIMITS = TicketLimits(attempt_seconds=900.0)
_AGENTS = ("command:ruff check --fix .", "anthropic", "openai")
_FAILURES = tuple(FailureClass)


def make_ticket(chance: Chance, number: int, arrives: float) -> Ticket:
    repo = f"o/r{number % 7}"
    title = f"Ticket {number}"
    return Ticket(
        ticket_id("default", repo, number, 1),
        "default",
        repo,
        number,
        1,
        title,
        "",
        text_hash(title, ""),
        "main",
        branch_name(number, 1, title),
        _AGENTS[int(chance.fixed(f"agent of {number}") * 3)],
        "ada",
        EPOCH + arrives,
        limits=LIMITS,
        route=("openai", "rehearsal:other") if chance.fixed(f"route of {number}") < 0.3 else (),
    )


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt's behaviour. ``words``: (seconds of work, what is then said). ``change``: whether it hands one over.

    ``hangs``: alive without a word for that many seconds before its last one; an interrupt ends that.
    """

    words: tuple[tuple[float, EventData], ...]
    change: bool
    failure: AttemptFailed | None = None
    hangs: float = 0.0


def attempt(chance: Chance, ticket: Ticket, number: int) -> Try:
    """By seed, ticket and number alone."""
    name = f"{ticket.id} {number}"
    # Every tenth ticket always ends the same way.
    mood = chance.fixed(f"mood {ticket.id}") if chance.fixed(f"stubborn {ticket.id}") < 0.1 else 0.0
    end = mood or chance.fixed(f"end {name}")
    pace = 1.0 + 8.0 * chance.fixed(f"pace {name}")
    words: list[tuple[float, EventData]] = [(pace, AgentStarted(ticket.agent, "bubblewrap"))]
    for turn in range(int(chance.fixed(f"turns {name}") * 3)):
        words.append((0.5, ModelAsked("m")))
        words.append((pace, ToolStarted(str(turn), "shell", "pytest -q")))
        words.append((pace, ToolFinished(str(turn), f"d{turn}", 0, 10)))
    if end < 0.74:
        return Try(tuple(words), change=True)
    if end < 0.90:
        failure = _FAILURES[int(chance.fixed(f"failure {name}") * len(_FAILURES))]
        after = 45.0 if failure is FailureClass.PROVIDER_LIMIT else None
        return Try(tuple(words), change=False, failure=AttemptFailed(failure, "so it went", "the end of it", after))
    if end < 0.92:
        return Try((*words, (1.0, Note("thinking"))), change=True, hangs=1500.0)
    return Try(tuple(words), change=False)


def verdict(chance: Chance, ticket: Ticket, attempt: int, base: str, run: int) -> str:
    """passed, red, conflict, park, infrastructure or broken. The last two may differ from run to run."""
    roll = chance.fixed(f"gates {ticket.id} {attempt} {base}")
    if roll < 0.78:
        flaw = chance.fixed(f"machine {ticket.id} {attempt} {base} {run}")
        return "infrastructure" if flaw < 0.03 else "broken" if flaw < 0.05 else "passed"
    return "red" if roll < 0.92 else "conflict" if roll < 0.96 else "park"
