"""Live attempts by the hundred on the virtual clock, each of which stalls: none is noticed early, never, or late."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fleet.cli.commands import app
from fleet.simulate.checks import Broken
from fleet.simulate.stalls import WITHIN_S, play
from tests.support.mutants import Mutant

COUNT = 100


@pytest.mark.invariant("I15")
def test_every_kind_of_stall_is_noticed_within_a_second_of_its_threshold() -> None:
    noticed = play(COUNT)
    assert {how: len(found) for how, found in noticed.late.items()} == dict.fromkeys(
        ("frozen", "silent", "thinking", "idle", "loop"), COUNT // 5
    )
    assert 0.0 < noticed.end() <= WITHIN_S
    assert noticed.text().count("99 % within") == 6


def test_the_same_seed_is_the_same_run() -> None:
    assert play(20, 7) == play(20, 7)
    assert play(20, 7) != play(20, 8)


MUTANTS = {
    "what is due is looked at when it is": Mutant(
        "supervisor.shard:ShardKeeper.next", "min(self._agenda.next(), self._round + ROUND_EVERY)", "self._round + 5.0"
    ),
    "a loop is one": Mutant("supervisor.stall:cause", "_one(calls, policy.same_calls)", "False"),
    "a model has its own patience": Mutant("supervisor.stall:cause", "quiet.word if watch.asking else 0.0", "0.0"),
    "silence is by a clock that nobody moves": Mutant(
        "supervisor.liveness:Clocks.moment", "mono - (known.word or ordered)", "wall - 1.8e9 - (known.word or ordered)"
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name].install(monkeypatch)
    with pytest.raises(Broken):
        play(COUNT)


def test_the_command_says_how_late() -> None:
    done = CliRunner().invoke(app, ["simulate", "--stalls", "20", "--json"])
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert row["type"] == "result" and row["stalls"] == 20 and 0.0 < row["p99"] <= 1.0
    assert "100 live attempts stalled" in CliRunner().invoke(app, ["simulate", "--stalls", "100"]).stdout


def test_the_command_fails_when_a_stall_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS["a loop is one"].install(monkeypatch)
    done = CliRunner().invoke(app, ["simulate", "--stalls", "20"])
    assert done.exit_code == 1 and "I15 is broken" in done.stdout
