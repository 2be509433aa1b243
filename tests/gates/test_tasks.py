"""The gates' task on a real ledger with a real supervisor: what is recorded, what is told, and what is told twice."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_gates.tasks import GateTasks
from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.git import BareRepo
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import FleetRedis, connect
from fleet.core.codec import encode
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import ParkError, TemporaryError
from fleet.core.events import ApprovalGiven, AttemptStopped, CancelRequested, ChangeReady, Source, StateChanged
from fleet.core.gates import Approval, GateKind, GatePass, make_pass
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from supervisor.service import Supervisor
from tests.gates import world as gates
from tests.gates.test_runs import BROKEN, CODE, REPO
from tests.supervisor.world import World as Fleet
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

pytestmark = [pytest.mark.needs("bwrap")]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="fl"))
    redis = EmbeddedRedis(folder / "home", folder / "run", SystemClock(), SystemIds())
    redis.ensure()
    yield redis
    redis.stop()
    shutil.rmtree(folder)


@pytest.fixture
def clients(server: EmbeddedRedis) -> Iterator[dict[str, FleetRedis]]:
    opened = {role.value: connect(server.address, role.value, server.password(role)) for role in Role}
    opened["admin"].flushall()
    yield opened
    for client in opened.values():
        client.close()


@dataclass
class Stage:
    """A ticket whose attempt has handed over; ``base`` is what the forge's base branch is at."""

    world: gates.World
    fleet: Fleet
    supervisor: Supervisor
    tasks: GateTasks
    ticket: Ticket
    base: str = ""

    def hand_over(self, change: gates.Files) -> Effect:
        """An attempt that ends with this change of REPO; returns the order for its gates."""
        begun = self.fleet.running(self.supervisor, self.ticket)
        before = self.world.commit(REPO)
        self.base = self.base or before
        elsewhere = BareRepo.init(self.world.layout.home / "attempt.git")
        elsewhere.fetch(self.world.store.path, (f"+{before}:refs/base",))
        after = self.world.commit({**REPO, **change}, before)
        bundle = self.world.layout.home / "change.bundle"
        self.world.store.update_ref("refs/change", after)
        self.world.store.bundle(bundle, "refs/change", (before,))
        name = f"tickets/{self.ticket.id}/{begun.attempt}"
        self.world.artifacts.put_file(f"{name}/change.bundle", bundle)
        ready = ChangeReady(f"{name}/change.bundle", after, self.world.store.tree(after), before, 1, 1, 1)
        self.world.artifacts.put(f"{name}/change.json", encode(ready))
        self.fleet.players.attempt_says(self.ticket.id, begun.attempt, ready, AttemptStopped("done"))
        self.fleet.turns(self.supervisor)
        return self.fleet.ordered(self.ticket, EffectKind.RUN_GATES)[-1]

    def run(self, order: Effect) -> None:
        self.tasks.run(order.ticket, order.attempt, order.round)

    def seen(self) -> TicketView:
        self.fleet.turns(self.supervisor)
        return self.fleet.seen(self.ticket)


@pytest.fixture
def stage(world: gates.World, server: EmbeddedRedis, clients: dict[str, FleetRedis]) -> Iterator[Stage]:
    fleet = Fleet(server, clients)
    made: list[Stage] = []
    tasks = GateTasks(
        fleet.ledgers["gates"],
        world.runner,
        lambda repo: world.store,
        world.artifacts,
        lambda wanted: made[0].base,
        SystemClock(),
        "host",
    )
    made.append(Stage(world, fleet, fleet.make(), tasks, ticket()))
    yield made[0]
    fleet.close()


def pass_of(stage: Stage, order: Effect, head: str) -> object:
    ledger = stage.fleet.ledgers["publisher"]
    plan = ledger.gate_plan(order.ticket, order.attempt, head)
    return make_pass(plan, ledger.gate_records(order.ticket, order.attempt, head), head)


@pytest.mark.invariant("I5")
def test_a_good_change_is_recorded_and_goes_to_the_publisher(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    stage.run(order)
    view = stage.seen()
    assert view.state is State.PUBLISHING, view.detail
    head = view.head
    assert stage.world.store.rev(f"refs/fleet/{order.ticket}/{order.attempt}") == head
    assert isinstance(pass_of(stage, order, head), GatePass)
    assert {gate.name: gate.outcome for gate in view.gates}["tests"] == "passed"
    store = stage.world.store
    assert store.call("rev-list", "--parents", "-1", head).stdout.decode().split() == [head, stage.base]


@pytest.mark.invariant("I5")
def test_a_breaking_change_ends_refused_with_the_failure_named(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": BROKEN})
    stage.run(order)
    view = stage.seen()
    assert (view.state, view.reason) == (State.REJECTED, Reason.GATES_RED)
    assert "test_calc.py::test_add" in view.detail
    told = {gate.name: gate.digest for gate in view.gates}
    assert "E       assert" in told["tests"], "the log's useful part goes with the verdict"
    assert not any(digest for name, digest in told.items() if name != "tests")
    assert not isinstance(pass_of(stage, order, view.head), GatePass)


@pytest.mark.invariant("I12")
def test_a_change_of_gate_inputs_waits_for_a_person(stage: Stage) -> None:
    stage.run(stage.hand_over({"conftest.py": "x = 1\n"}))
    view = stage.seen()
    assert (view.state, view.reason) == (State.PARKED, Reason.APPROVAL) and "conftest.py" in view.detail


@pytest.mark.invariant("I3")
def test_a_doubled_or_forged_wake_up_does_nothing(stage: Stage) -> None:
    stage.tasks.run(stage.ticket.id, 1, 1)  # nobody ordered it
    assert stage.world.environment.asked == 0
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    stage.tasks.run(order.ticket, order.attempt, order.round + 1)
    stage.tasks.run(order.ticket, order.attempt + 1, order.round)
    assert stage.world.environment.asked == 0
    stage.run(order)
    stage.run(order)
    assert stage.world.environment.asked == 1
    assert stage.seen().state is State.PUBLISHING


@pytest.mark.invariant("I14")
def test_a_lost_verdict_is_told_again_and_not_made_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    lost: list[object] = []
    with monkeypatch.context() as lossy:
        lossy.setattr(stage.tasks._teller, "tell", lambda view, attempt, data: lost.append(data))
        stage.run(order)
    assert lost and stage.seen().state is State.GATING
    stage.fleet.players.woken.clear()
    stage.fleet.clock.advance(40)
    stage.fleet.turns(stage.supervisor)
    (again,) = stage.fleet.ordered(stage.ticket, EffectKind.RUN_GATES)
    assert again.turn == order.turn + 1
    stage.run(again)
    assert stage.seen().state is State.PUBLISHING and stage.world.environment.asked == 1


def test_a_conflict_with_base_sends_the_work_back(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# one\n" + CODE})
    stage.base = stage.world.commit({**REPO, "calc.py": "# two\n" + CODE}, stage.base)
    stage.run(order)
    assert stage.seen().state is State.STARTING  # the next attempt works on the new base
    log = [event.data for _, event in stage.fleet.ledgers["people"].log(stage.ticket.id)]
    (back,) = [one for one in log if isinstance(one, StateChanged) and one.state is State.BACKING_OFF]
    assert back.reason is Reason.AGENT_ERROR and "calc.py" in back.detail


@pytest.mark.invariant("I5")
def test_base_that_moved_is_merged_and_gated(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    test = "from calc import add\n\n\ndef test_more():\n    assert add(2, 2) == 4\n"
    stage.base = stage.world.commit({**REPO, "test_more.py": test}, stage.base)
    stage.run(order)
    view = stage.seen()
    assert view.state is State.PUBLISHING and view.base_sha == stage.base
    assert stage.world.store.read(view.head, "test_more.py", 1000) == test.encode()
    records = stage.fleet.ledgers["publisher"].gate_records(order.ticket, order.attempt, view.head)
    assert {one.tests.total for one in records if one.tests is not None} == {3}


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ParkError("no_sandbox", "No sandbox holds."), State.PARKED, Reason.NO_SANDBOX),
        (TemporaryError("The index is away."), State.GATING, Reason.TRANSIENT),
    ],
)
def test_what_stands_in_the_way_is_told(stage: Stage, error: Exception, state: State, reason: Reason) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})

    def fail(*args: object) -> None:
        raise error

    stage.world.environment.prepare = fail  # type: ignore[method-assign,assignment]
    stage.run(order)
    view = stage.seen()
    assert (view.state, view.reason) == (state, reason)


def test_a_wrong_fleet_toml_parks_with_its_line(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    stage.base = stage.world.commit({**REPO, ".fleet.toml": "[gates.x]\nkomand = 'x'\n"}, stage.base)
    stage.run(order)
    view = stage.seen()
    assert (view.state, view.reason) == (State.PARKED, Reason.CONFIG) and ".fleet.toml, line 2" in view.detail


@pytest.mark.invariant("I20")
def test_a_cancelled_ticket_is_not_gated(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    stage.fleet.players.person(stage.ticket.id, CancelRequested("me"))
    stage.fleet.turns(stage.supervisor)
    stage.run(order)
    assert stage.world.environment.asked == 0 and stage.seen().state is State.CANCELLED


@pytest.mark.invariant("I5")
def test_a_bundle_that_is_not_the_change_that_was_announced_is_not_gated(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE})
    name = f"tickets/{order.ticket}/{order.attempt}/change.bundle"
    evil = stage.world.commit({**REPO, "calc.py": BROKEN}, stage.base)
    stage.world.store.update_ref("refs/evil", evil)
    bundle = stage.world.layout.home / "evil.bundle"
    stage.world.store.bundle(bundle, "refs/evil", (stage.base,))
    stage.world.artifacts.put_file(name, bundle)
    fresh = BareRepo.init(stage.world.layout.home / "fresh.git")
    fresh.fetch(stage.world.store.path, (f"+{stage.base}:refs/base",))
    stage.tasks._store = lambda repo: fresh
    stage.run(order)
    assert stage.world.environment.asked == 0
    assert stage.seen().state is State.GATING and "announced" in stage.seen().detail


# --- what a person allows ------------------------------------------------------------------------------------------
GUARDED = {"conftest.py": "# mine\n"}


def approve(stage: Stage, head: str, by: str = "ann", told: str = "") -> None:
    """As `fleet approve` does: the record, then the word."""
    people = stage.fleet.ledgers["people"]
    people.put_approval(Approval(stage.ticket.id, 1, head, by, 5.0))
    stage.fleet.players.say("people", Source.PEOPLE, stage.ticket.id, 0, ApprovalGiven(by, told or head))


@pytest.mark.invariant("I12")
def test_what_policy_asks_about_waits_for_a_person_and_then_passes_by_name(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE, **GUARDED})
    stage.run(order)
    view = stage.seen()
    assert (view.state, view.reason) == (State.PARKED, Reason.APPROVAL)
    assert not isinstance(pass_of(stage, order, view.head), GatePass)
    approve(stage, view.head)
    view = stage.seen()
    assert (view.state, view.reason, view.detail) == (State.GATING, Reason.APPROVED, "by ann")
    again = stage.fleet.ordered(stage.ticket, EffectKind.RUN_GATES)[-1]
    assert again.round == order.round + 1
    stage.run(again)
    view = stage.seen()
    assert (view.state, view.reason) == (State.PUBLISHING, Reason.GATES_PASSED), view.detail
    ledger = stage.fleet.ledgers["publisher"]
    plan, records = ledger.gate_plan(view.id, 1, view.head), ledger.gate_records(view.id, 1, view.head)
    policy = next(record for record in records if record.kind is GateKind.POLICY)
    assert policy.allowed_by == "ann" and policy.summary.startswith("allowed by ann; ") and "conftest" in policy.summary
    # The pass stands on the person's record, and on nothing that the gates say about it.
    assert isinstance(make_pass(plan, records, view.head, ledger.approvals(view.id)), GatePass)
    assert not isinstance(make_pass(plan, records, view.head), GatePass)


@pytest.mark.invariant("I12")
def test_an_approval_of_another_commit_allows_nothing(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# sums\n" + CODE, **GUARDED})
    stage.run(order)
    head = stage.seen().head
    approve(stage, "f" * 40)
    assert stage.seen().state is State.PARKED, "another commit was meant"
    # Even when the word names this commit: the gates go by the record.
    stage.fleet.players.say("people", Source.PEOPLE, stage.ticket.id, 0, ApprovalGiven("ann", head))
    assert stage.seen().state is State.GATING
    stage.run(stage.fleet.ordered(stage.ticket, EffectKind.RUN_GATES)[-1])
    view = stage.seen()
    assert (view.state, view.reason) == (State.PARKED, Reason.APPROVAL)


@pytest.mark.invariant("I12")
def test_what_policy_refuses_nobody_can_allow(stage: Stage) -> None:
    order = stage.hand_over({"calc.py": "# \u202esums\n" + CODE, **GUARDED})
    stage.fleet.ledgers["people"].put_approval(Approval(stage.ticket.id, 1, stage_head(stage), "ann", 5.0))
    stage.run(order)
    assert stage.seen().reason is not Reason.APPROVAL and stage.seen().state is not State.PUBLISHING


def stage_head(stage: Stage) -> str:
    """What H will be: approving beforehand is the worst case."""
    from ci_gates.head import build_head

    view = stage.seen()
    assert view.change is not None
    return build_head(stage.world.store, stage.ticket, view.change.commit, stage.base).sha


@pytest.mark.invariant("I12")
def test_mutant_that_allows_any_commit_is_noticed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("ci_gates.tasks:GateTasks._gate", "(one.attempt, one.head) == (view.attempt, head.sha)", "True").install(
        monkeypatch
    )
    Mutant("ci_gates.runner:GateRunner.run", "job.approval.head == job.head and", "").install(monkeypatch)
    order = stage.hand_over({"calc.py": "# sums\n" + CODE, **GUARDED})
    stage.fleet.ledgers["people"].put_approval(Approval(stage.ticket.id, 1, "f" * 40, "ann", 5.0))
    stage.run(order)
    assert stage.seen().reason is not Reason.APPROVAL
