"""The lines of ``fleet show -f``: one per event, plain in a file, cut to fit in a terminal, escaped everywhere."""

from __future__ import annotations

from fleet.cli.follow import Pen
from fleet.core.budget import Cost
from fleet.core.events import (
    AttemptFailed,
    AttemptStarted,
    Envelope,
    EventData,
    EventsMissing,
    GateFinished,
    Heartbeat,
    ModelAsked,
    Nudged,
    Rung,
    Source,
    StateChanged,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State

ATTEMPTS, GATES, OWN = Source.ATTEMPTS, Source.GATES, Source.SUPERVISOR
LOG: list[tuple[float, Source, EventData]] = [
    (0.0, OWN, StateChanged(State.STARTING, Reason.GRANTED, attempt=1)),
    (0.5, ATTEMPTS, AttemptStarted("here", 1, "anthropic", "i")),
    (0.6, ATTEMPTS, ModelAsked("m")),
    (1.0, ATTEMPTS, TurnFinished(1, Cost(0.01, 100, 20, 1), "m")),
    (1.1, ATTEMPTS, ToolStarted("1", "shell", "shell pytest -q")),
    (1.2, ATTEMPTS, ToolFinished("1", "d", 1, 812)),
    (1.3, ATTEMPTS, TurnFinished(2, Cost(0.02, 100, 20, 1), "m")),
    (9.0, OWN, Nudged(Rung.NUDGE, "loop", "Try something else.", 8.0)),
    (9.1, ATTEMPTS, TurnFinished(2, Cost(), "m")),
    (9.5, GATES, GateFinished(1, "tests", "tests", "failed", 1.5, "1 new failure")),
    (9.9, ATTEMPTS, AttemptFailed(FailureClass.AGENT_ERROR, "no \x1b[2J idea", "one\ntwo")),
    (10.0, OWN, StateChanged(State.ESCALATED, Reason.POISON, "3 times")),
]
PLAIN = """\
     0.0s  ●         starting (granted)
── attempt 1
     0.5s  attempt   attempt 1 claimed on here
     1.0s  turn 1    $0.0100 (100 in, 20 out) by m; $0.0100 so far
     1.1s  shell     pytest -q
     1.2s            → exit 1, 812 ms
     1.3s  turn 2    $0.0200 (100 in, 20 out) by m; $0.0300 so far
     9.0s  nudge     loop for 8 s: Try something else.
     9.1s  turn 2    no answer from m; $0.0300 so far
     9.5s  gate      tests: failed in 1.5 s; 1 new failure
     9.9s  failed    attempt failed (agent_error): no \\u001b[2J idea (+2 lines in `fleet show`)
    10.0s  ●         escalated (poison): 3 times
"""


def written(width: int = 0, colour: bool = False) -> str:
    parts: list[str] = []
    pen = Pen(parts.append, width, colour)
    for at, source, data in LOG:
        pen.event(Envelope("default", "t-1-a", 1, 0, 100.0 + at, data, source))
    return "".join(parts)


def test_each_event_that_people_care_about_is_one_line() -> None:
    assert written() == PLAIN


def test_a_terminal_gets_colour_and_lines_that_fit() -> None:
    rows = written(40, True).splitlines()
    assert len(rows) == len(PLAIN.splitlines())
    for row in rows:
        bare = row.replace("\x1b[0m", "")
        start = bare.index("m") + 1 if bare.startswith("\x1b[") else 0
        assert len(bare[start:]) <= 40, row
        assert "\x1b" not in bare[start:], "what an agent said steers no terminal"
    (nudge,) = [row for row in rows if "nudge" in row]
    assert nudge.startswith("\x1b[1;33m")


def test_what_only_machines_need_is_left_out() -> None:
    parts: list[str] = []
    pen = Pen(parts.append)
    for data in (Heartbeat(3), ModelAsked("m")):
        pen.event(Envelope("default", "t-1-a", 1, 0, 1.0, data, ATTEMPTS))
    assert parts == []
    pen.event(Envelope("default", "t-1-a", 1, 0, 1.0, EventsMissing(4), OWN))
    assert len(parts) == 1
