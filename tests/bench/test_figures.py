"""The pure parts of ``fleet bench``: samples, targets, how they read."""

from __future__ import annotations

import pytest

from fleet.bench.attach import first_kind
from fleet.bench.dispatch import sources, times
from fleet.bench.figures import Figure, Target, Unit, differences, ratios, side_by_side
from fleet.bench.procs import Cost, per_piece, pss_in, table
from fleet.core.errors import InternalError
from fleet.core.events import AgentStarted, Envelope, EventData, SlotGranted, Source, WorkspaceReady


def test_the_median_is_held_against_the_target() -> None:
    slow = Figure("x", Unit.MS, (0.010, 0.020, 0.090), Target(0.015))
    assert slow.median == 0.020
    assert slow.met is False
    assert Figure("x", Unit.RATE, (31.0,), Target(30.0, at_least=True)).met is True
    assert Figure("x", Unit.RATE, (29.0,), Target(30.0, at_least=True)).met is False
    assert Figure("x", Unit.RATE, (29.0,)).met is None


def test_a_figure_reads_in_its_own_unit() -> None:
    line = Figure("added", Unit.MS, (0.010, 0.020, 0.090), Target(0.015)).line()
    assert "20.0 ms" in line
    assert "(10.0 ms – 90.0 ms, n 3)" in line
    assert line.endswith("target ≤ 15.0 ms  MISSED")
    assert Figure("all", Unit.MEMORY, (218_300_000.0,)).line().split() == ["all", "218.3", "MB", "(n", "1)"]


def test_a_row_for_scripts_names_unit_target_and_verdict() -> None:
    row = Figure("ratio", Unit.RATIO, (0.25, 0.35), Target(0.2, at_least=True), "beside").row()
    assert row == {
        "name": "ratio",
        "unit": "×",
        "n": 2,
        "median": 0.3,
        "min": 0.25,
        "max": 0.35,
        "target": 0.2,
        "met": True,
        "note": "beside",
    }


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Figure("x", Unit.MS, ())


def test_samples_are_taken_in_turns_and_compared_pair_by_pair() -> None:
    order: list[str] = []

    def one(name: str, value: float) -> float:
        order.append(name)
        return value

    mine, other = side_by_side(3, lambda: one("a", 4.0), lambda: one("b", 2.0))
    assert order == ["a", "b"] * 3
    assert differences(mine, other) == (2.0, 2.0, 2.0)
    assert ratios(mine, other) == (2.0, 2.0, 2.0)


def test_memory_is_read_from_the_kernels_summary() -> None:
    assert pss_in("Rss:  900 kB\nPss:  700 kB\nPss_Anon: 100 kB\n") == 700 * 1024
    assert pss_in("") == 0


def test_costs_count_from_the_first_look() -> None:
    before, after = {1: Cost("old", 1.0, 5)}, {1: Cost("old", 1.5, 2_000_000), 2: Cost("new", 0.5, 0)}
    assert table(before, after, 10.0)[0].split() == "old 5.00 % of a core 2.0 MB PSS".split()
    assert per_piece(before, after, 100)[-1].split() == "all 10.00 ms of a core each".split()


def event(at: float, data: EventData) -> Envelope:
    return Envelope("default", "t-1-abc", 1, 0, at, data, Source.ATTEMPTS)


def test_a_dispatch_is_read_from_the_log() -> None:
    log = [
        event(10.0, SlotGranted()),
        event(11.0, WorkspaceReady("b", 5000, 0.8, 0.25)),
        event(11.5, AgentStarted("command:true", "bubblewrap")),
    ]
    assert times(log) == (1.5, 0.25)
    with pytest.raises(InternalError, match="No agent was started"):
        times(log[:2])


def test_the_generated_repository_has_as_many_files_and_none_twice() -> None:
    made = sources(250)
    assert len(made) == 250
    assert len(set(made.values())) == 250


@pytest.mark.parametrize(
    ("lines", "kind"),
    [([b'{"v":1,"type":"event"}'], "event"), ([b"fleet: no"], ""), ([], ""), ([b"[1]"], "")],
)
def test_the_first_line_of_a_run_is_told_from_an_error(lines: list[bytes], kind: str) -> None:
    assert first_kind(lines) == kind
