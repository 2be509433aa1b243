"""Each protection switched off: the simulation must end with a broken promise. Seeds are those that show it soonest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.simulate.record import Protections
from fleet.simulate.world import Plan, run
from tests.support.mutants import Mutant

# protection → (promise, faults, seed, tickets)
UNGUARDED = {
    "single_use": ("I3", "heavy", 0, 8),
    "wanted": ("I20", "stale", 46, 8),
    "epoch": ("I17", "heavy", 19, 8),
    "push_lease": ("I3", "stale", 7, 8),
    "look_up": ("I4", "heavy", 1, 8),
    "bound_pass": ("I5", "stale", 14, 8),
    "result_last": ("I5", "heavy", 0, 8),
    "unbegun": ("I3", "stale", 97, 8),
}
# In the fleet's own code: name → (promise, seed, tickets, mutant)
MUTANTS = {
    "attempt cap": (
        "I8",
        0,
        8,
        Mutant("supervisor.retries:used_up", ">= view.ticket.limits.attempts", ">= 10**9"),
    ),
    "counted before the work": (
        "I8",
        0,
        8,
        Mutant("supervisor.fold:_moved", "attempt=changed.attempt,", "attempt=view.attempt,"),
    ),
    "a hand-back counts nothing": (
        "I18",
        4,
        8,
        Mutant("supervisor.fold:_counted", "changed.reason in _UNCOUNTED", "changed.reason is Reason.PAUSED"),
    ),
    "events in order": (
        "I14",
        0,
        8,
        Mutant("supervisor.shard:ShardKeeper._take", "event.seq != view.seq + 1", "event.seq <= view.seq"),
    ),
    "everything is logged": (
        "I17",
        0,
        8,
        Mutant(
            "supervisor.shard:ShardKeeper._fold",
            "turn.batch.log.append(event)",
            "turn.batch.log += [] if isinstance(event.data, EventsMissing) else [event]",
        ),
    ),
    "silence of the gates": (
        "I1",
        3,
        8,
        Mutant("supervisor.decide:_gating", "if moment.silent > policy.lost_after:", "if False:"),
    ),
    "wake again": (
        "I1",
        1,
        8,
        Mutant("supervisor.post:Post._wake", "self._agenda.at(effect.id, mono + self._rewake_after)", "pass"),
    ),
    "no bug of ours about a decision": (
        "I6",
        0,
        8,
        Mutant("fleet.core.states:allowed", "return reason in", "return reason is not Reason.LOST and reason in"),
    ),
    "no bug of ours about a word": (
        "I6",
        0,
        8,
        Mutant("supervisor.fold:_note", "if isinstance(event.data, PublishStarted):", "if event.data.missing:"),
    ),
    "compensation": (
        "I20",
        41,
        8,
        Mutant("supervisor.decide:_unwanted_pull", "if not pull or view.withdraw == pull:", "if True:"),
    ),
}


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I5")
@pytest.mark.invariant("I14")
@pytest.mark.invariant("I20")
@pytest.mark.parametrize("name", UNGUARDED)
def test_a_protection_switched_off_breaks_its_promise(name: str) -> None:
    promise, level, seed, tickets = UNGUARDED[name]
    off = replace(Protections(), **{name: False})
    outcome = run(Plan(seed, tuple(range(1, tickets + 1)), level, protections=off))
    assert outcome.broken is not None and outcome.broken.promise == promise, outcome.broken


def test_every_protection_has_its_mutant() -> None:
    assert set(UNGUARDED) == set(Protections.__dataclass_fields__)


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I8")
@pytest.mark.invariant("I17")
@pytest.mark.invariant("I18")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_fleet_breaks_its_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    promise, seed, tickets, mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    outcome = run(Plan(seed, tuple(range(1, tickets + 1)), "heavy"))
    assert outcome.broken is not None and outcome.broken.promise == promise, outcome.broken
