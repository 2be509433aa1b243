"""Tickets through the real ledger, with real accounts; only time and the workers are played."""

from __future__ import annotations

import pytest

from fleet.core.effects import EffectKind
from fleet.core.events import (
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    ChangeReady,
    GatesFinished,
    Heartbeat,
    Note,
    Published,
    PublishFailed,
    PublishProblem,
    RetryRequested,
    Source,
    StateChanged,
    StatusPosted,
    Withdrawn,
)
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.ticket import shard_of
from supervisor.admission import Caps
from supervisor.fold import fold_all
from tests.supervisor.world import World
from tests.support.tickets import ticket


@pytest.mark.invariant("I17")
def test_a_ticket_goes_all_the_way_and_its_log_gives_the_same_view(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    world.until_quiet(supervisor)
    view = world.seen(wanted)
    assert (view.state, view.attempt, view.slot) == (State.IN_REVIEW, 1, 0)
    log = [event for _, event in world.ledgers["people"].log(wanted.id)]
    moves = [event.data.state.value for event in log if isinstance(event.data, StateChanged)]
    assert [move for move in moves if move != "running"] == ["starting", "gating", "publishing", "in_review"]
    assert fold_all(log) == view


@pytest.mark.invariant("I2")
def test_a_doubled_acceptance_is_one_ticket(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    for _ in range(3):
        world.players.accept(wanted)
    world.turns(supervisor)
    assert [view.id for view in world.ledgers["people"].views()] == [wanted.id]
    assert {effect.id for effect in world.players.woken} == {f"{wanted.id}:start:1:0:0"}
    before = world.seen(wanted)
    world.players.accept(wanted)
    world.turns(supervisor)
    assert world.seen(wanted) == before


@pytest.mark.invariant("I3")
def test_of_many_wake_ups_one_claims(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    world.turns(supervisor)
    effect = world.players.woken[0]
    claims = [world.ledgers["attempt"].claim(wanted.id, effect.attempt, f"guard-{n}") for n in range(100)]
    assert claims.count(True) == 1
    assert world.ledgers["attempt"].claim(wanted.id, effect.attempt, "guard-0"), "its answer may have been lost"


def test_a_lost_wake_up_is_sent_again_until_somebody_begins(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    world.turns(supervisor, 60)
    assert len(world.players.woken) >= 3
    assert world.players.act(world.players.woken[0])
    world.players.woken.clear()
    world.turns(supervisor, 60)
    assert not [effect for effect in world.players.woken if effect.kind is EffectKind.START_ATTEMPT]


@pytest.mark.invariant("I15")
def test_silence_means_lost_and_a_heartbeat_means_alive(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    for _ in range(12):
        world.players.attempt_says(wanted.id, 1, Heartbeat(1))
        world.turns(supervisor, 1, seconds=10)
    assert world.seen(wanted).state is State.RUNNING
    world.clock.jump(86_400)
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.RUNNING, "a wall-clock jump restarts nobody"
    world.turns(supervisor, 40, seconds=1)
    view = world.seen(wanted)
    assert view.attempt == 2 and view.failed("lost") == 1
    assert view.state is State.STARTING


@pytest.mark.invariant("I15")
def test_a_worker_that_dies_between_begin_and_its_first_word_is_noticed(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    world.turns(supervisor)
    assert world.ledgers["attempt"].begin("agents", world.players.woken[0], "dead guard")
    world.turns(supervisor, 45, seconds=1)
    assert world.seen(wanted).attempt == 2


@pytest.mark.invariant("I14")
def test_lost_doubled_and_reordered_events_cost_nothing(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)

    def say(seq: int, text: str) -> None:
        world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, Note(text), seq)

    say(3, "third")  # the second was lost on the way
    world.turns(supervisor, 2)
    assert world.seen(wanted).seq == 1
    told = world.ledgers["attempt"].commands(wanted.id, 1, "0", 1)
    assert [b'"kind":"resend"' in raw and b'"seq":2' in raw for _, raw in told] == [True]
    for seq, text in ((2, "second"), (2, "second again"), (3, "third"), (2, "second at last")):
        say(seq, text)
    world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert (view.seq, view.activity, view.missing_from) == (3, "third", 0)
    world.players.attempt_says(wanted.id, 1, Heartbeat(5))  # two newer events never came
    world.turns(supervisor, 2)
    assert len(world.ledgers["attempt"].commands(wanted.id, 1, "0", 1)) == 2


@pytest.mark.invariant("I5")
def test_a_word_on_the_wrong_stream_or_of_a_stale_attempt_has_no_effect(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    forged = GatesFinished(1, "h" * 40, "b" * 40, True, "trust me")
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, forged, 2)
    world.players.say("gates", Source.GATES, wanted.id, 1, forged)
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 9, ChangeReady("x", "c", "t", "b", 1, 1, 1), 1)
    world.turns(supervisor, 3)
    assert world.seen(wanted).state is State.RUNNING
    assert len(world.ledgers["people"].quarantine()) == 3


@pytest.mark.invariant("I20")
@pytest.mark.parametrize("stage", ["queued", "starting", "running", "gating", "publishing", "in_review"])
def test_cancel_stops_what_is_not_begun_and_compensates_what_is(world: World, stage: str) -> None:
    supervisor, wanted = world.make(caps=Caps(fleet=0 if stage == "queued" else 4)), ticket()
    world.players.accept(wanted)
    world.turns(supervisor)
    for name in ("starting", "gating", "publishing", "in_review"):
        if world.seen(wanted).state.value == stage or stage == "queued":
            break
        if stage == "running":
            effect = world.players.woken[0]
            assert world.ledgers["attempt"].begin("agents", effect, "g")
            world.players.attempt_says(wanted.id, 1, AttemptStarted("h", 1, "a", "i"))
        else:
            world.players.act_all()
        world.turns(supervisor)
        assert name
    assert world.seen(wanted).state.value == stage
    pending = [effect for effect in world.players.woken if effect.kind is not EffectKind.STATUS]
    world.players.woken.clear()
    world.players.person(wanted.id, CancelRequested("cli", "changed my mind"))
    world.turns(supervisor)
    view = world.seen(wanted)
    assert (view.state, view.reason) == (State.CANCELLED, Reason.CANCELLED_BY_PERSON)
    assert not any(world.players.act(effect) for effect in pending), "nothing that was not begun may begin now"
    if stage == "in_review":
        withdraw = [effect for effect in world.players.woken if effect.kind is EffectKind.WITHDRAW]
        assert withdraw and world.ledgers["publisher"].begin("publisher", withdraw[0], "p")
        world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(7))
        world.turns(supervisor)
        assert world.ledgers["people"].outbox(withdraw[0].id, wanted.id) is None


@pytest.mark.invariant("I16")
def test_retries_are_classified_back_off_and_end(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    world.players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.AGENT_ERROR, "no idea"))
    world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert view.state is State.BACKING_OFF and view.until is not None
    assert 15 <= view.until - world.clock.now() <= 30
    for attempt in (2, 3):
        world.clock.advance(900)
        world.turns(supervisor)
        (effect,) = {e.id: e for e in world.players.woken if e.attempt == attempt}.values()
        assert world.ledgers["attempt"].begin("agents", effect, "g")
        world.players.attempt_says(wanted.id, attempt, AttemptFailed(FailureClass.AGENT_ERROR, "no, " * attempt))
        world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert (view.state, view.reason) == (State.ESCALATED, Reason.ATTEMPTS_USED_UP)
    world.players.person(wanted.id, RetryRequested("cli"))
    world.turns(supervisor)
    assert world.seen(wanted).attempt == 4


def test_the_status_comment_is_ordered_until_the_newest_view_is_shown(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    (first,) = [effect for effect in world.players.woken if effect.kind is EffectKind.STATUS]
    world.players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.COMMAND_FAILED, "exit 2"))
    world.turns(supervisor, 2)
    second = [effect for effect in world.players.woken if effect.kind is EffectKind.STATUS][-1]
    assert second.round > first.round
    assert world.ledgers["people"].outbox(first.id, wanted.id) is None
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, StatusPosted(first.round))
    world.turns(supervisor, 2)
    assert world.ledgers["people"].outbox(second.id, wanted.id) is not None
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, StatusPosted(second.round))
    world.turns(supervisor, 2)
    assert world.ledgers["people"].outbox(second.id, wanted.id) is None


@pytest.mark.parametrize(
    ("caps", "together", "per_repo"),
    [
        (Caps(fleet=3, tenant=9, repo=9), 3, 2),
        (Caps(fleet=9, tenant=3, repo=9), 3, 2),
        (Caps(fleet=9, tenant=9, repo=1), 2, 1),
    ],
)
def test_caps_hold_and_say_why(world: World, caps: Caps, together: int, per_repo: int) -> None:
    supervisor = world.make(caps=caps)
    tickets = [ticket(n) for n in range(1, 5)] + [ticket(n, repo="local/other") for n in range(1, 4)]
    for one in tickets:
        world.players.accept(one)
    world.turns(supervisor, 10)
    starting = [view for view in world.ledgers["people"].views() if view.state is State.STARTING]
    assert len(starting) == together
    assert max(sum(view.ticket.repo == repo for view in starting) for repo in ("local/demo", "local/other")) == per_repo
    waiting = [view for view in world.ledgers["people"].views() if view.state is State.QUEUED]
    assert all("taken" in world.ledgers["people"].why(view.id) for view in waiting)
    for _ in range(30):
        world.turns(supervisor, 3)
        world.players.act_all()
    assert {view.state for view in world.ledgers["people"].views()} == {State.IN_REVIEW}


def test_a_moved_base_runs_the_gates_again_at_most_twice(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    for _ in range(40):
        world.turns(supervisor, 2)
        for effect in [effect for effect in world.players.woken if effect.kind is EffectKind.PUBLISH]:
            world.players.woken.remove(effect)
            if world.ledgers["publisher"].begin("publisher", effect, "p"):
                moved = PublishFailed(effect.round, PublishProblem.BASE_MOVED, "base moved")
                world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, moved)
        world.players.act_all()
    view = world.seen(wanted)
    assert (view.state, view.round, view.failed("base_moved")) == (State.ESCALATED, 3, 2)


@pytest.mark.invariant("I6")
def test_another_supervisor_takes_over_and_the_frozen_one_writes_nothing(world: World) -> None:
    first, wanted = world.make("first"), ticket()
    world.players.accept(wanted)
    world.turns(first, 3)
    shard = shard_of(wanted.id)
    admin = world.clients["admin"]
    admin.delete(*admin.keys("fleet:*:owner"), "fleet:members")  # it is frozen: all expires
    second = world.make("second")
    world.until_quiet(second)
    assert shard in second.owned
    assert world.seen(wanted).state is State.IN_REVIEW
    before = world.seen(wanted)
    keeper = first._keepers[shard]
    stale = keeper.tick(world.clock.now() + 9000, world.clock.monotonic() + 9000, 0.5)
    with pytest.raises(Exception, match="EPOCH"):
        first._store.step(shard, keeper.shard.epoch, stale.batch)
    assert world.seen(wanted) == before


def test_two_supervisors_share_and_one_that_leaves_gives_back(world: World) -> None:
    first, second = world.make("first"), world.make("second")
    world.turns(first, 1)
    assert len(first.owned) == 17
    for _ in range(4):
        world.turns(second, 1, seconds=1.1)
        world.turns(first, 1, seconds=1.1)
    assert abs(len(first.owned) - len(second.owned)) <= 1
    assert not first.owned & second.owned
    second.leave()
    world.turns(first, 2, seconds=1.1)
    assert len(first.owned) == 17


def test_a_pull_request_that_comes_after_the_end_of_patience_is_still_shown(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    for _ in range(60):
        world.turns(supervisor, 2)
        for effect in [effect for effect in world.players.woken if effect.kind is EffectKind.PUBLISH]:
            world.players.woken.remove(effect)
            if world.ledgers["publisher"].begin("publisher", effect, "p"):
                down = PublishFailed(effect.round, PublishProblem.FORGE_DOWN, "away")
                world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, down)
        world.players.act_all()
        world.clock.advance(900)
    assert world.seen(wanted).state is State.PARKED
    late = Published(7, "url", "h" * 40, "b" * 40)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, late)
    world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert view.state is State.PARKED and view.pull_request is not None and view.pull_request.number == 7
