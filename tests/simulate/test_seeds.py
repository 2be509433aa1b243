"""The whole fleet in simulation: fixed seeds keep every promise, the same seed is the same run, stories are short."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from fleet.adapters.pool import spread
from fleet.cli.commands import app
from fleet.simulate.faults import HEAVY
from fleet.simulate.record import Protections
from fleet.simulate.report import plans, simulate
from fleet.simulate.world import Outcome, Plan, run
from tests.support.clock import VirtualClock

STATES = {"merged", "closed", "cancelled", "rejected", "escalated", "parked", "in_review"}


def world(seed: int, level: str, tickets: int = 80, **more: object) -> Outcome:
    return run(Plan(seed, tuple(range(1, tickets + 1)), level, **more))  # type: ignore[arg-type]


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I5")
@pytest.mark.invariant("I6")
@pytest.mark.invariant("I8")
@pytest.mark.invariant("I14")
@pytest.mark.invariant("I16")
@pytest.mark.invariant("I17")
@pytest.mark.invariant("I20")
@pytest.mark.parametrize(
    ("level", "seed", "tickets"),
    [("heavy", 1, 60), ("heavy", 2, 30), ("stale", 3, 60), ("stale", 5, 30), ("light", 1, 80)],
)
def test_a_seed_keeps_every_promise(level: str, seed: int, tickets: int) -> None:
    outcome = world(seed, level, tickets)
    assert outcome.broken is None, outcome.broken
    assert sum(outcome.ends.values()) == outcome.tickets == tickets
    assert set(outcome.ends) <= STATES
    struck = {name.split(".")[1] for name in outcome.faults}
    assert {"kill", "freeze"} <= struck, "a round that killed nobody shows nothing"


@pytest.mark.invariant("I18")
@pytest.mark.invariant("I19")
def test_everything_that_can_go_wrong_does() -> None:
    struck, taken = set[str](), 0
    for seed in range(48):
        outcome = world(seed, "heavy", 3)
        assert outcome.broken is None, outcome.broken
        struck |= set(outcome.faults)
        taken += outcome.take_overs
    assert {name.split(".")[0] for name in struck} == set(HEAVY)
    assert {f"outage.{what}" for what in HEAVY["outage"]} <= struck
    assert {"drain.machine", "drain.workers", "roll.supervisor", "worker.jump"} <= struck
    assert taken > 16, "shards changed hands"


def test_without_faults_every_ticket_ends_as_its_fate_says() -> None:
    outcome = world(6, "none", 60)
    assert outcome.broken is None, outcome.broken
    assert outcome.struck == () and set(outcome.ends) == STATES
    assert not any("lost" in move for move in outcome.reached)


def test_one_seed_is_one_story() -> None:
    def told(seed: int) -> tuple[list[str], Outcome]:
        lines: list[str] = []
        plan = Plan(seed, tuple(range(1, 9)))
        return lines, run(plan, lambda at, who, text: lines.append(f"{at} {who} {text}"))

    first = told(9)
    assert told(9) == first
    assert told(10)[0] != first[0]


def test_worlds_have_their_own_seeds() -> None:
    made = list(plans(450, 7, "light", 200, Protections()))
    assert [(plan.seed, len(plan.numbers)) for plan in made] == [(7, 200), (8, 200), (9, 50)]


@pytest.mark.parametrize("off", ["", "single_use"])
def test_worlds_played_side_by_side_add_up_to_the_same(off: str) -> None:
    def totals(jobs: int) -> dict[str, object]:
        protections = replace(Protections(), **{off: False}) if off else Protections()
        with spread(jobs) as mapping:
            made = simulate(24, 18, "heavy", VirtualClock(), at_once=8, protections=protections, spread=mapping)
        story = (made.story.promise, made.story.lines) if made.story else ()
        return {**made.row(), "seconds": 0, "tickets_per_second": 0, "story": story}

    assert totals(2) == totals(1)
    assert (totals(2)["broken"] != "") == bool(off)


def test_a_failing_world_is_told_in_few_words() -> None:
    unguarded = Protections(look_up=False)
    totals = simulate(8, 2, "heavy", VirtualClock(), protections=unguarded)
    story = totals.story
    assert story is not None and story.promise == "I4"
    assert story.tickets == 1 and 1 <= story.faults <= 5
    assert sum("opens pull request" in line for line in story.lines) == 2
    assert totals.doubled == 1 and totals.lost == 0
    again = run(story.plan)
    assert again.broken is not None and again.broken.promise == "I4", "the story can be run again"


def test_the_command_prints_a_table_and_fails_when_nothing_was_killed() -> None:
    done = CliRunner().invoke(app, ["simulate", "--tickets", "30", "--seed", "1", "--json"])
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["tickets"] == 30 and row["lost"] == row["doubled"] == 0 and row["killed"] > 0
    assert sum(row["ends"].values()) == 30
    assert CliRunner().invoke(app, ["simulate", "--tickets", "1", "--seed", "1", "--faults", "light"]).exit_code == 1
