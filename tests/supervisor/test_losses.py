"""Workers and processes that die at the worst moment, late words, and forged ones: scenarios on the real ledger."""

from __future__ import annotations

import itertools

import pytest

from fleet.core.codec import encode, encode_event
from fleet.core.effects import EffectKind
from fleet.core.errors import TemporaryError
from fleet.core.events import (
    AttemptStarted,
    CancelRequested,
    ChangeReady,
    Envelope,
    GatesFailed,
    GatesFinished,
    GatesStarted,
    Heartbeat,
    Published,
    PublishFailed,
    PublishProblem,
    PullRequestClosed,
    SlotGranted,
    Source,
    TicketAccepted,
    Withdrawn,
)
from fleet.core.states import Reason, State
from fleet.core.step import Refused
from fleet.core.ticket import Ticket, shard_of
from supervisor.admission import Caps, Message, Request
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.players import CHANGE
from tests.support.tickets import ticket


def gating(world: World, supervisor: Supervisor, wanted: Ticket) -> None:
    """A ticket whose first attempt handed over and whose gates were begun."""
    world.running(supervisor, wanted)
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.turns(supervisor, 2)
    assert world.ledgers["gates"].begin("gates", world.ordered(wanted, EffectKind.RUN_GATES)[-1], "g")


def publishing(world: World, supervisor: Supervisor, wanted: Ticket) -> None:
    """A ticket whose gates passed and whose publishing was begun."""
    gating(world, supervisor, wanted)
    world.players.say("gates", Source.GATES, wanted.id, 1, GatesFinished(1, "h" * 40, "b" * 40, True, "ok"))
    world.turns(supervisor, 2)
    assert world.ledgers["publisher"].begin("publisher", world.ordered(wanted, EffectKind.PUBLISH)[-1], "p")


@pytest.mark.invariant("I15")
def test_an_attempt_that_dies_right_after_its_first_word_is_noticed(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    assert world.seen(wanted).state is State.RUNNING
    world.turns(supervisor, 35, seconds=1)
    assert world.seen(wanted).attempt == 2


@pytest.mark.invariant("I6")
@pytest.mark.parametrize("stage", [gating, publishing])
def test_a_worker_that_died_while_no_supervisor_lived_is_noticed(world: World, stage: object) -> None:
    supervisor, wanted = world.make("first"), ticket()
    assert callable(stage)
    stage(world, supervisor, wanted)
    supervisor.leave()
    second = world.make("second")
    world.turns(second, 40, seconds=1)
    assert world.seen(wanted).turn == 1


@pytest.mark.invariant("I6")
def test_an_attempt_that_died_while_no_supervisor_lived_is_noticed(world: World) -> None:
    supervisor, wanted = world.make("first"), ticket()
    world.running(supervisor, wanted)
    supervisor.leave()
    world.turns(world.make("second"), 35, seconds=1)
    assert world.seen(wanted).attempt == 2


@pytest.mark.invariant("I15")
def test_a_take_over_counts_silence_anew(world: World) -> None:
    """Nobody listened for an hour: that is no reason to restart an attempt that is alive."""
    supervisor, wanted = world.make("first"), ticket()
    world.running(supervisor, wanted)
    supervisor.leave()
    world.clock.advance(3600)
    second = world.make("second")
    world.turns(second, 5, seconds=5)
    world.players.attempt_says(wanted.id, 1, Heartbeat(1))
    world.turns(second, 5, seconds=5)
    assert (world.seen(wanted).attempt, world.seen(wanted).state) == (1, State.RUNNING)


@pytest.mark.invariant("I15")
def test_an_outage_of_the_store_counts_silence_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    passes = itertools.count()

    def away(*_: object) -> object:
        raise TemporaryError("The ledger does not answer.")

    with monkeypatch.context() as outage:
        outage.setattr(supervisor._store, "read", away)
        outage.setattr(world.clock, "sleep", lambda _: world.clock.advance(60))

        def stop() -> bool:
            """Thirty passes without the store, one pass of quiet after it, then an attempt that lives."""
            number = next(passes)
            if number == 30:
                outage.undo()
            if number > 30:
                world.clock.advance(5)
            if number > 31:
                world.players.attempt_says(wanted.id, 1, Heartbeat(1))
            return number > 34

        supervisor.run(stop)
    assert (world.seen(wanted).attempt, world.seen(wanted).state) == (1, State.RUNNING)


@pytest.mark.invariant("I19")
def test_work_that_was_begun_is_not_woken_again(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    gating(world, supervisor, wanted)
    world.players.woken.clear()
    world.players.say("gates", Source.GATES, wanted.id, 1, GatesStarted(1, "h" * 40, "b" * 40, ("tests",)))
    for _ in range(12):
        world.players.say("gates", Source.GATES, wanted.id, 1, Heartbeat(0))
        world.turns(supervisor, 1, seconds=10)
    assert len(world.ordered(wanted, EffectKind.RUN_GATES)) <= 1


@pytest.mark.invariant("I15")
@pytest.mark.parametrize(("source", "stage"), [(Source.GATES, gating), (Source.PUBLISHER, publishing)])
def test_the_heartbeat_of_an_earlier_attempt_keeps_nobody_alive(world: World, source: Source, stage: object) -> None:
    supervisor, wanted = world.make(), ticket()
    assert callable(stage)
    stage(world, supervisor, wanted)
    role = source.value if source is Source.GATES else "publisher"
    for _ in range(40):
        world.players.say(role, source, wanted.id, 0, Heartbeat(0))
        world.turns(supervisor, 1, seconds=1)
    assert world.seen(wanted).turn == 1


@pytest.mark.invariant("I5")
@pytest.mark.parametrize(
    "word",
    [
        GatesStarted(7, "f" * 40, "b" * 40, ("forged",)),
        GatesFinished(7, "f" * 40, "b" * 40, True, "trust me"),
        GatesFailed(7, "trust me", park="config"),
    ],
)
def test_gates_of_another_round_change_nothing(world: World, word: GatesStarted | GatesFinished | GatesFailed) -> None:
    supervisor, wanted = world.make(), ticket()
    gating(world, supervisor, wanted)
    before = world.seen(wanted)
    world.players.say("gates", Source.GATES, wanted.id, 1, word)
    world.turns(supervisor, 2)
    assert world.seen(wanted) == before
    assert len(world.ledgers["people"].quarantine()) == 1


@pytest.mark.invariant("I14")
def test_a_publisher_of_another_round_changes_nothing(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    publishing(world, supervisor, wanted)
    late = PublishFailed(7, PublishProblem.MOVED, "somebody else pushed")
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, late)
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.PUBLISHING
    assert len(world.ledgers["people"].quarantine()) == 1


@pytest.mark.parametrize("reason", ["", "no such reason", "lost"])
def test_gates_that_park_for_a_reason_nobody_knows_stop_one_ticket_not_the_fleet(world: World, reason: str) -> None:
    supervisor, wanted = world.make(), ticket()
    gating(world, supervisor, wanted)
    verdict = GatesFinished(1, "h" * 40, "b" * 40, False, "a person must look", needs=reason or "what?")
    world.players.say("gates", Source.GATES, wanted.id, 1, verdict)
    world.turns(supervisor, 2)
    assert (world.seen(wanted).state, world.seen(wanted).reason) == (State.PARKED, Reason.CONFIG)


def test_a_merge_that_is_told_before_the_publishing_is_not_forgotten(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    publishing(world, supervisor, wanted)
    world.players.say("intake", Source.INTAKE, wanted.id, 0, PullRequestClosed(True, "ada"))
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Published(7, "url", "h" * 40, "b" * 40))
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.MERGED


@pytest.mark.invariant("I20")
def test_nothing_found_does_not_call_off_the_closing_of_what_was_found_later(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    publishing(world, supervisor, wanted)
    world.players.person(wanted.id, CancelRequested("ada"))
    world.turns(supervisor, 2)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Published(7, "url", "h" * 40, "b" * 40))
    world.turns(supervisor, 1)
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(0))
    world.turns(supervisor, 2)
    (close,) = {effect.id: effect for effect in world.ordered(wanted, EffectKind.WITHDRAW) if effect.turn == 7}.values()
    assert world.ledgers["people"].outbox(close.id, wanted.id) is not None
    world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(7))
    world.turns(supervisor, 1)
    assert world.ledgers["people"].outbox(close.id, wanted.id) is None


# --- admission -----------------------------------------------------------------------------------------------------
def test_a_grant_that_was_written_but_never_told_is_told_after_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, wanted = world.make(), ticket()
    world.turns(supervisor, 1)
    world.players.accept(wanted)
    with monkeypatch.context() as crash:
        crash.setattr(supervisor._store, "grant", _raise)
        with pytest.raises(TemporaryError):
            world.turns(supervisor, 4)
    supervisor.leave()
    world.turns(world.make("second"), 4)
    assert world.seen(wanted).state is State.STARTING


def _raise(*_: object) -> None:
    raise TemporaryError("The ledger does not answer.")


def test_a_doubled_grant_is_not_written_into_the_log_of_a_ticket_that_has_its_place(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    for number in range(2, 7):
        world.players.accept(ticket(number))
        world.turns(supervisor, 2)
    grants = [one for _, one in world.ledgers["people"].log(wanted.id) if isinstance(one.data, SlotGranted)]
    assert len(grants) == 1


def test_a_place_asked_for_by_a_ticket_that_is_gone_is_given_to_nobody_for_long(world: World) -> None:
    """A request whose ticket no longer waits is dropped when admission looks around."""
    supervisor, wanted = world.make(caps=Caps(fleet=1, tenant=1, repo=1)), ticket()
    world.turns(supervisor, 1)
    ghost = Request("ghost-9-00000000", 1, "default", wanted.repo, 5, 1.0)
    supervisor._store.ask_admission([encode(Message("ask", ghost)), encode(Message("pr_open", ghost))])
    world.turns(supervisor, 3)
    world.players.accept(wanted)
    world.turns(supervisor, 4)
    assert world.seen(wanted).state is State.QUEUED, "the ghost holds the only place"
    world.turns(supervisor, 3, seconds=61)
    assert world.seen(wanted).state is State.STARTING
    assert not world.clients["people"].hexists("fleet:{adm}:prs", ghost.ticket)


@pytest.mark.invariant("I5")
def test_a_ticket_on_the_stream_of_another_shard_is_refused(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    other = next(f"s{n:02d}" for n in range(16) if f"s{n:02d}" != shard_of(wanted.id))
    event = Envelope("default", wanted.id, 0, 0, 1.0, TicketAccepted(wanted), Source.INTAKE)
    world.clients["intake"].xadd(f"fleet:{{{other}}}:in:intake", {"e": encode_event(event)})
    world.turns(supervisor, 2)
    assert list(world.ledgers["people"].views()) == []


@pytest.mark.parametrize("number", [2**63, 2**64, 2**70, 10**40])
def test_an_absurd_number_stops_nobody(world: World, number: int) -> None:
    supervisor, wanted = world.make(), ticket()
    world.running(supervisor, wanted)
    change = ChangeReady("x", "c" * 40, "t" * 40, "b" * 40, 1, 1, 1)
    raw = (
        b'{"v":1,"kind":"AttemptStarted","tenant":"default","ticket":"%s","attempt":1,"seq":2,"at":1.0,'
        b'"source":"attempts","trace":"","data":{"host":"h","pid":%d,"agent":"a","incarnation":"i"}}'
    ) % (wanted.id.encode(), number)
    world.clients["attempt"].xadd(f"fleet:{{{shard_of(wanted.id)}}}:in:attempts", {"e": raw})
    world.turns(supervisor, 2)
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, AttemptStarted("h", 1, "a", "i"), 2)
    world.players.say("attempt", Source.ATTEMPTS, wanted.id, 1, change, 3)
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.GATING


@pytest.mark.invariant("I6")
def test_a_frozen_admission_gives_nothing_away(world: World) -> None:
    frozen = world.make("frozen")
    world.turns(frozen, 1)
    assert frozen._desk is not None
    admin = world.clients["admin"]
    admin.delete(*admin.keys("fleet:*:owner"), "fleet:members")
    world.turns(world.make("second"), 1)
    ghost = Request("ghost-9-00000000", 1, "default", "local/demo", 5, 1.0)
    with pytest.raises(Refused):
        frozen._desk.absorb([("1-0", encode(Message("ask", ghost)))], world.clock.now(), world.clock.monotonic())
    assert not world.clients["people"].hgetall("fleet:{adm}:grants")
