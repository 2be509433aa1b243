"""Nothing is pushed without a pass that the publisher itself recomputes from the records (I5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.adapters import keys
from fleet.core.events import PublishProblem
from fleet.core.gates import PASSING, Approval, Outcome
from fleet.core.ticket import shard_of
from fleet.publisher.plan import head_ref
from tests.publisher.world import World, problem, published
from tests.support.mutants import Mutant


@pytest.mark.invariant("I5")
def test_one_byte_changed_after_the_gates(world: World) -> None:
    view = world.gated()
    other = world.commit(world.base, {"a.py": " "})
    world.store.update_ref(head_ref(view.id, 1), other)
    assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.NO_PASS
    assert world.branch_at(view.ticket.branch) == "" and world.pulls() == []


@pytest.mark.invariant("I5")
@pytest.mark.parametrize("outcome", [one for one in Outcome if one not in PASSING])
def test_a_gate_that_did_not_pass(world: World, outcome: Outcome) -> None:
    view = world.gated()
    record = world.records(view.ticket, view.head, 1)[2]
    world.ledger.put_gate_record(replace(record, outcome=outcome))
    assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.NO_PASS
    assert world.branch_at(view.ticket.branch) == ""


@pytest.mark.invariant("I5")
@pytest.mark.parametrize(
    "forged",
    [{"base_sha": "0" * 40}, {"config_digest": "e" * 64}, {"head": "1" * 40}, {"attempt": 2}, {"name": "test"}],
)
def test_a_tampered_record(world: World, forged: dict[str, object]) -> None:
    view = world.gated()
    record = world.records(view.ticket, view.head, 1)[2]
    world.redis.hdel(keys.gates(view.id), f"gate:1:{view.head}:tests")
    world.ledger.put_gate_record(replace(record, **forged))  # type: ignore[arg-type]
    assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.NO_PASS
    assert world.pulls() == []


@pytest.mark.invariant("I5")
def test_a_verdict_can_only_take_the_pass_away(world: World) -> None:
    view = world.gated()
    verdict = world.ledger.verdict(view.id, 1, 1)
    assert verdict is not None
    for worse in (replace(verdict, needs="approval"), replace(verdict, passed=False), replace(verdict, head="0" * 40)):
        world.ledger.put_verdict(worse)
        assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.NO_PASS
    assert problem(world.publisher().publish(view, 1, 7)) is PublishProblem.NO_PASS


@pytest.mark.invariant("I5")
def test_a_commit_that_does_not_stand_on_the_gated_base(world: World) -> None:
    aside = world.commit(world.base, {"c.py": "hidden\n"})
    view = world.gated(head=world.commit(aside, {"a.py": ""}))
    assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.NO_PASS


@pytest.mark.invariant("I5")
def test_mutant_that_believes_the_message_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With make_pass taken out, a red gate gets published: the tests above can fail."""
    from fleet.core.gates import make_pass
    from fleet.publisher import plan

    view = world.gated()
    red = replace(world.records(view.ticket, view.head, 1)[2], outcome=Outcome.FAILED)
    world.ledger.put_gate_record(red)

    def believes(plan_record, records, head, approvals):  # type: ignore[no-untyped-def]
        return make_pass(plan_record, [replace(r, outcome=Outcome.PASSED) for r in records], head)

    monkeypatch.setattr(plan, "make_pass", believes)
    published(world.publisher().publish(view, 1, 1))


@pytest.mark.invariant("I5")
def test_neither_a_view_nor_a_wake_up_can_say_that_gates_passed(world: World) -> None:
    """Whatever the view claims and whoever wakes the publisher: without an order nothing, without records nothing."""
    view = world.gated()
    world.redis.delete(keys.gates(view.id))
    world.tasks().pull_request(view.id, 1, 1)
    (end,) = world.endings()
    assert problem(end) is PublishProblem.NO_PASS
    world.redis.delete(keys.of(shard_of(view.id), "outbox"))
    for attempt, round in ((1, 1), (1, 2), (2, 1), (0, 0)):
        world.tasks("other").pull_request(view.id, attempt, round)
        world.tasks("other").withdraw(view.id, attempt, round)
        world.tasks("other").status(view.id, attempt, round)
    assert len(world.endings()) == 1 and world.pulls() == [] and world.branch_at(view.ticket.branch) == ""


@pytest.mark.invariant("I12")
def test_what_a_gate_says_that_a_person_allowed_needs_that_persons_record(world: World) -> None:
    view = world.gated()
    policy = replace(world.records(view.ticket, view.head, 1)[0], allowed_by="ann")
    world.ledger.put_gate_record(policy)
    for forged in (
        None,
        Approval(view.id, 1, "f" * 40, "ann", 1.0),
        Approval(view.id, 2, view.head, "ann", 1.0),
        Approval(view.id, 1, view.head, "mallory", 1.0),
    ):
        if forged is not None:
            world.ledger.put_approval(forged)
        assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.NO_PASS
    assert world.branch_at(view.ticket.branch) == "" and world.pulls() == []
    world.ledger.put_approval(Approval(view.id, 1, view.head, "ann", 1.0))
    published(world.publisher().publish(view, 1, 1))


@pytest.mark.invariant("I12")
def test_mutant_that_believes_the_gate_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.core.gates:_against", "if record.allowed_by and not any(", "if False and not any(").install(
        monkeypatch
    )
    view = world.gated()
    world.ledger.put_gate_record(replace(world.records(view.ticket, view.head, 1)[0], allowed_by="ann"))
    published(world.publisher().publish(view, 1, 1))
