"""Tickets through the real ledger, with real accounts; only time and the workers are played."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import FleetRedis
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import (
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    ChangeReady,
    GatesFinished,
    Heartbeat,
    Note,
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
from fleet.core.ticket import Ticket, shard_of
from fleet.core.view import TicketView
from supervisor.admission import Caps
from supervisor.fold import fold_all
from supervisor.service import Supervisor
from tests.support.clock import VirtualClock
from tests.support.players import Players
from tests.support.tickets import ticket

Make = Callable[..., Supervisor]


def turns(supervisor: Supervisor, clock: VirtualClock, count: int = 6, seconds: float = 0.6) -> None:
    for _ in range(count):
        clock.advance(seconds)
        supervisor.turn(1)


def until_quiet(supervisor: Supervisor, players: Players, clock: VirtualClock) -> None:
    """Turns and healthy workers until nothing is woken any more."""
    for _ in range(12):
        turns(supervisor, clock, 3)
        players.act_all()


def seen(ledgers: dict[str, RedisLedger], wanted: Ticket) -> TicketView:
    view = ledgers["people"].view(wanted.id)
    assert view is not None
    return view


def running(supervisor: Supervisor, players: Players, clock: VirtualClock, wanted: Ticket) -> Effect:
    """Brings a fresh ticket to a claimed first attempt."""
    players.accept(wanted)
    turns(supervisor, clock)
    (effect,) = [effect for effect in players.woken if effect.ticket == wanted.id]
    ledger = players._ledgers["attempt"]
    assert ledger.begin("agents", effect, "guard")
    players.attempt_says(wanted.id, effect.attempt, AttemptStarted("h", 1, wanted.agent, ledger.incarnation()))
    players.woken.clear()
    turns(supervisor, clock, 2)
    return effect


@pytest.mark.invariant("I17")
def test_a_ticket_goes_all_the_way_and_its_log_gives_the_same_view(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    players.accept(wanted)
    until_quiet(supervisor, players, clock)
    view = seen(ledgers, wanted)
    assert (view.state, view.attempt, view.slot) == (State.IN_REVIEW, 1, 0)
    log = [event for _, event in ledgers["people"].log(wanted.id)]
    moves = [event.data.state.value for event in log if isinstance(event.data, StateChanged)]
    assert moves == ["starting", "running", "gating", "publishing", "in_review"] or moves == [
        "starting",
        "gating",
        "publishing",
        "in_review",
    ]
    assert fold_all(log) == view


@pytest.mark.invariant("I2")
def test_a_doubled_acceptance_is_one_ticket(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    for _ in range(3):
        players.accept(wanted)
    turns(supervisor, clock)
    assert [view.id for view in ledgers["people"].views()] == [wanted.id]
    assert {effect.id for effect in players.woken} == {f"{wanted.id}:start:1:0:0"}


@pytest.mark.invariant("I3")
def test_of_many_wake_ups_one_claims(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    players.accept(wanted)
    turns(supervisor, clock)
    effect = players.woken[0]
    claims = [ledgers["attempt"].claim(wanted.id, effect.attempt, f"guard-{n}") for n in range(100)]
    assert claims.count(True) == 1
    assert ledgers["attempt"].claim(wanted.id, effect.attempt, "guard-0"), "its answer may have been lost"


def test_a_lost_wake_up_is_sent_again_until_somebody_begins(make: Make, players: Players, clock: VirtualClock) -> None:
    supervisor, wanted = make(), ticket()
    players.accept(wanted)
    turns(supervisor, clock, 60)
    assert len(players.woken) >= 3
    assert players.act(players.woken[0])
    players.woken.clear()
    turns(supervisor, clock, 60)
    assert not [effect for effect in players.woken if effect.kind is EffectKind.START_ATTEMPT]


@pytest.mark.invariant("I15")
def test_silence_means_lost_and_a_heartbeat_means_alive(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    running(supervisor, players, clock, wanted)
    for _ in range(12):
        players.attempt_says(wanted.id, 1, Heartbeat(1))
        turns(supervisor, clock, 1, seconds=10)
    assert seen(ledgers, wanted).state is State.RUNNING
    clock.jump(86_400)
    turns(supervisor, clock, 2)
    assert seen(ledgers, wanted).state is State.RUNNING, "a wall-clock jump restarts nobody"
    turns(supervisor, clock, 40, seconds=1)
    view = seen(ledgers, wanted)
    assert view.attempt == 2 and view.failed("lost") == 1
    assert view.state is State.STARTING


@pytest.mark.invariant("I15")
def test_a_worker_that_dies_between_begin_and_its_first_word_is_noticed(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    players.accept(wanted)
    turns(supervisor, clock)
    assert ledgers["attempt"].begin("agents", players.woken[0], "dead guard")
    turns(supervisor, clock, 45, seconds=1)
    assert seen(ledgers, wanted).attempt == 2


@pytest.mark.invariant("I14")
def test_lost_doubled_and_reordered_events_cost_nothing(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger], clients: dict[str, FleetRedis]
) -> None:
    supervisor, wanted = make(), ticket()
    running(supervisor, players, clock, wanted)

    def say(seq: int, text: str) -> None:
        players.say("attempt", Source.ATTEMPTS, wanted.id, 1, Note(text), seq)

    say(3, "third")  # the second was lost on the way
    turns(supervisor, clock, 2)
    assert seen(ledgers, wanted).seq == 1
    told = ledgers["attempt"].commands(wanted.id, 1, "0", 1)
    assert [b'"kind":"resend"' in raw and b'"seq":2' in raw for _, raw in told] == [True]
    for seq, text in ((2, "second"), (2, "second again"), (3, "third")):
        say(seq, text)
    turns(supervisor, clock, 2)
    view = seen(ledgers, wanted)
    assert (view.seq, view.activity, view.missing_from) == (3, "third", 0)
    players.attempt_says(wanted.id, 1, Heartbeat(5))  # two newer events never came
    turns(supervisor, clock, 2)
    assert len(ledgers["attempt"].commands(wanted.id, 1, "0", 1)) == 2


@pytest.mark.invariant("I5")
def test_a_word_on_the_wrong_stream_or_of_a_stale_attempt_has_no_effect(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    running(supervisor, players, clock, wanted)
    forged = GatesFinished(1, "h" * 40, "b" * 40, True, "trust me")
    players.say("attempt", Source.ATTEMPTS, wanted.id, 1, forged, 2)
    players.say("gates", Source.GATES, wanted.id, 1, forged)
    players.say("attempt", Source.ATTEMPTS, wanted.id, 9, ChangeReady("x", "c", "t", "b", 1, 1, 1), 1)
    turns(supervisor, clock, 3)
    assert seen(ledgers, wanted).state is State.RUNNING
    assert len(ledgers["people"].quarantine()) == 3


@pytest.mark.invariant("I20")
@pytest.mark.parametrize("stage", ["queued", "starting", "running", "gating", "publishing", "in_review"])
def test_cancel_stops_what_is_not_begun_and_compensates_what_is(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger], stage: str
) -> None:
    supervisor, wanted = make(caps=Caps(fleet=0 if stage == "queued" else 4)), ticket()
    players.accept(wanted)
    turns(supervisor, clock)
    for name in ("starting", "gating", "publishing", "in_review"):
        if seen(ledgers, wanted).state.value == stage or stage == "queued":
            break
        if stage == "running":
            effect = players.woken[0]
            assert ledgers["attempt"].begin("agents", effect, "g")
            players.attempt_says(wanted.id, 1, AttemptStarted("h", 1, "a", "i"))
        else:
            players.act_all()
        turns(supervisor, clock)
        assert name
    assert seen(ledgers, wanted).state.value == stage
    pending = [effect for effect in players.woken if effect.kind is not EffectKind.STATUS]
    players.woken.clear()
    players.person(wanted.id, CancelRequested("cli", "changed my mind"))
    turns(supervisor, clock)
    view = seen(ledgers, wanted)
    assert (view.state, view.reason) == (State.CANCELLED, Reason.CANCELLED_BY_PERSON)
    assert not any(players.act(effect) for effect in pending), "nothing that was not begun may begin now"
    if stage == "in_review":
        withdraw = [effect for effect in players.woken if effect.kind is EffectKind.WITHDRAW]
        assert withdraw and ledgers["publisher"].begin("publisher", withdraw[0], "p")
        players.say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(7))
        turns(supervisor, clock)
        assert ledgers["people"].outbox(withdraw[0].id, wanted.id) is None


@pytest.mark.invariant("I16")
def test_retries_are_classified_back_off_and_end(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    running(supervisor, players, clock, wanted)
    players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.TRANSIENT, "index away"))
    turns(supervisor, clock, 2)
    view = seen(ledgers, wanted)
    assert view.state is State.BACKING_OFF and view.until is not None
    assert 15 <= view.until - clock.now() <= 30
    for attempt in (2, 3):
        clock.advance(900)
        turns(supervisor, clock)
        (effect,) = {e.id: e for e in players.woken if e.attempt == attempt}.values()
        assert ledgers["attempt"].begin("agents", effect, "g")
        players.attempt_says(wanted.id, attempt, AttemptFailed(FailureClass.TRANSIENT, "index away"))
        turns(supervisor, clock, 2)
    view = seen(ledgers, wanted)
    assert (view.state, view.reason) == (State.ESCALATED, Reason.ATTEMPTS_USED_UP)
    players.person(wanted.id, RetryRequested("cli"))
    turns(supervisor, clock)
    assert seen(ledgers, wanted).attempt == 4


def test_the_status_comment_is_ordered_until_the_newest_view_is_shown(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    running(supervisor, players, clock, wanted)
    (first,) = [effect for effect in players.woken if effect.kind is EffectKind.STATUS]
    players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.COMMAND_FAILED, "exit 2"))
    turns(supervisor, clock, 2)
    second = [effect for effect in players.woken if effect.kind is EffectKind.STATUS][-1]
    assert second.round > first.round
    assert ledgers["people"].outbox(first.id, wanted.id) is None
    players.say("publisher", Source.PUBLISHER, wanted.id, 1, StatusPosted(first.round))
    turns(supervisor, clock, 2)
    assert ledgers["people"].outbox(second.id, wanted.id) is not None
    players.say("publisher", Source.PUBLISHER, wanted.id, 1, StatusPosted(second.round))
    turns(supervisor, clock, 2)
    assert ledgers["people"].outbox(second.id, wanted.id) is None


def test_caps_hold_and_say_why(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor = make(caps=Caps(fleet=3, repo=2))
    tickets = [ticket(n) for n in range(1, 5)] + [ticket(n, repo="local/other") for n in range(1, 4)]
    for one in tickets:
        players.accept(one)
    turns(supervisor, clock, 10)
    starting = [view for view in ledgers["people"].views() if view.state is State.STARTING]
    assert len(starting) == 3
    assert max(sum(view.ticket.repo == repo for view in starting) for repo in ("local/demo", "local/other")) == 2
    waiting = [view for view in ledgers["people"].views() if view.state is State.QUEUED]
    assert all("taken" in ledgers["people"].why(view.id) for view in waiting)
    for _ in range(30):
        turns(supervisor, clock, 3)
        players.act_all()
    assert {view.state for view in ledgers["people"].views()} == {State.IN_REVIEW}


def test_a_moved_base_runs_the_gates_again_at_most_twice(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger]
) -> None:
    supervisor, wanted = make(), ticket()
    players.accept(wanted)
    for _ in range(40):
        turns(supervisor, clock, 2)
        for effect in [effect for effect in players.woken if effect.kind is EffectKind.PUBLISH]:
            players.woken.remove(effect)
            if ledgers["publisher"].begin("publisher", effect, "p"):
                moved = PublishFailed(effect.round, PublishProblem.BASE_MOVED, "base moved")
                players.say("publisher", Source.PUBLISHER, wanted.id, 1, moved)
        players.act_all()
    view = seen(ledgers, wanted)
    assert (view.state, view.round, view.failed("base_moved")) == (State.ESCALATED, 3, 2)


@pytest.mark.invariant("I6")
def test_another_supervisor_takes_over_and_the_frozen_one_writes_nothing(
    make: Make, players: Players, clock: VirtualClock, ledgers: dict[str, RedisLedger], clients: dict[str, FleetRedis]
) -> None:
    first, wanted = make("first"), ticket()
    players.accept(wanted)
    turns(first, clock, 3)
    shard = shard_of(wanted.id)
    clients["admin"].delete(*clients["admin"].keys("fleet:*:owner"), "fleet:members")  # it is frozen: all expires
    second = make("second")
    until_quiet(second, players, clock)
    assert shard in second.owned
    assert seen(ledgers, wanted).state is State.IN_REVIEW
    before = seen(ledgers, wanted)
    keeper = first._keepers[shard]
    stale = keeper.tick(clock.now() + 9000, clock.monotonic() + 9000, 0.5)
    with pytest.raises(Exception, match="EPOCH"):
        first._store.step(shard, keeper.shard.epoch, stale.batch)
    assert seen(ledgers, wanted) == before


def test_two_supervisors_share_and_one_that_leaves_gives_back(make: Make, clock: VirtualClock) -> None:
    first, second = make("first"), make("second")
    turns(first, clock, 1)
    assert len(first.owned) == 17
    for _ in range(4):
        turns(second, clock, 1, seconds=1.1)
        turns(first, clock, 1, seconds=1.1)
    assert abs(len(first.owned) - len(second.owned)) <= 1
    assert not first.owned & second.owned
    second.leave()
    turns(first, clock, 2, seconds=1.1)
    assert len(first.owned) == 17


