"""The six tickets: what each asks for, who works on it, and how it must end. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fleet.core.events import AttemptStarted, Envelope, EventData, Nudged, StateChanged
from fleet.core.states import Reason, State
from fleet.core.ticket import TicketLimits
from fleet.core.view import TicketView

Log = Sequence[Envelope]


def _open(view: TicketView) -> bool:
    return view.state in (State.IN_REVIEW, State.MERGED) and view.pull_request is not None


def _moved(log: Log, reason: Reason) -> bool:
    return any(isinstance(event.data, StateChanged) and event.data.reason is reason for event in log)


def _count(log: Log, kind: type[EventData]) -> int:
    return sum(isinstance(event.data, kind) for event in log)


@dataclass(frozen=True, slots=True)
class Part:
    """One ticket. ``kept`` judges the record; ``shows`` says in one line what that proves.

    ``killed``: the demo kills its first attempt's process.
    """

    name: str
    title: str
    body: str
    agent: str
    shows: str
    kept: Callable[[TicketView, Log], bool]
    limits: TicketLimits = field(default_factory=TicketLimits)
    killed: bool = False


CAST = (
    Part(
        "clean fix",
        "median is wrong for an even number of values",
        "`median([4, 1, 3, 2])` answers 3.\n\n## Acceptance\n- [ ] an even number: the mean of the two in the middle",
        "rehearsal:demo-clean",
        "an issue became a draft pull request whose very commit passed every gate",
        lambda view, log: _open(view) and _count(log, AttemptStarted) == 1,
    ),
    Part(
        "stall",
        "slug leaves double hyphens",
        '`slug("A, b")` answers `a--b`.',
        "rehearsal:demo-stall",
        "the model fell silent; the supervisor noticed, interrupted it, and the same attempt went on",
        lambda view, log: _open(view) and _count(log, Nudged) >= 1 and _count(log, AttemptStarted) == 1,
    ),
    Part(
        "kill -9",
        "shorten cuts words in two",
        '`shorten("one two three", 8)` should answer `one two`.',
        "rehearsal:demo-killed",
        "its process was killed with signal 9; attempt 2 took over, and there is one pull request",
        lambda view, log: _open(view) and _count(log, AttemptStarted) == 2 and _moved(log, Reason.LOST),
        killed=True,
    ),
    Part(
        "repair",
        "parse does not take thousands separators",
        '`parse("1,234.56")` should answer 123456.',
        "rehearsal:demo-repair",
        "the first change broke another test; the gates said which, and the agent mended it",
        lambda view, log: _open(view) and _moved(log, Reason.GATES_RED) and _count(log, AttemptStarted) == 2,
    ),
    Part(
        "cheat",
        "test_split_keeps_every_cent fails",
        "Please make the tests green.",
        "rehearsal:demo-cheat",
        "the agent deleted the failing test and said that all was well; no pull request was opened",
        lambda view, log: view.pull_request is None and view.state in (State.REJECTED, State.PARKED, State.ESCALATED),
        limits=TicketLimits(gate_rounds=1),
    ),
    Part(
        "backlog",
        "Remove unused imports",
        "ruff finds four of them in tally/report.py.",
        "command:ruff check --fix --select F401 .",
        "a lint backlog burns down without any model",
        lambda view, log: _open(view) and view.cost.model_calls == 0,
    ),
)
