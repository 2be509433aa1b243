"""Each measure runs once with tiny numbers. The figures themselves are no business of a test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.bench import noop, procs, rooms, run, supervisor
from fleet.bench.figures import Report, Unit
from fleet.bench.rooms import Bench
from fleet.cli.bench import Measure
from fleet.cli.commands import app
from fleet.local.client import Client


def bench() -> Bench:
    env = {name: os.environ[name] for name in ("PATH", "HOME", "FLEET_TOOLS", "PYTHONPATH") if name in os.environ}
    return Bench(env, lambda _: None, quick=True)


def names(report: Report) -> list[str]:
    return [figure.name for figure in report.figures]


def test_every_measure_has_its_word() -> None:
    assert {measure.value for measure in Measure} == {*run.MEASURES, "all"}


@pytest.mark.slow
def test_noop_tickets_pass_every_state() -> None:
    report = noop.measure(bench())
    assert names(report) == ["tickets", "their Celery tasks", "as many bare Celery tasks", "ratio"]
    assert all(figure.median > 0 for figure in report.figures)
    assert any("fleet-superviso" in line for line in report.details)


@pytest.mark.slow
def test_a_supervisor_takes_in_all_that_is_said() -> None:
    """The measure itself looks whether every event is in the log and in the view, and whether every stall was seen."""
    report = supervisor.measure(bench())
    assert len(report.figures) == 15
    # The CPU time of so few events and the memory of so few tickets are below what the kernel tells apart.
    sure = [
        figure
        for figure in report.figures
        if figure.unit is Unit.RATE or "ratio" in figure.name or "killed" in figure.name
    ]
    assert len(sure) == 6
    assert all(figure.median > 0 for figure in sure)


@pytest.mark.slow
def test_a_measure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "DISK", str(tmp_path))
    with rooms.home(bench()) as made:
        made.make()
        runtime, work = made.layout.runtime, made.layout.work
        client = Client(made, lambda _: None)
        client.attach()
        pids = procs.of_home(client)
        assert len(pids) > 6
    assert list(tmp_path.iterdir()) == []
    assert not runtime.exists()
    assert not work.exists()
    assert procs.costs(pids) == {}


@pytest.mark.slow
@pytest.mark.needs("bwrap")
def test_the_command_says_figure_as_json() -> None:
    done = CliRunner().invoke(app, ["bench", "sandbox", "--quick", "--json"])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.stdout.splitlines() if '"type": "figure"' in line]
    assert len(rows) >= 3
    assert all('"measure": "sandbox"' in row for row in rows)
