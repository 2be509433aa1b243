"""Behind a proxy that fails on purpose: nothing is lost, nothing spins, and nobody has to help (I19)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from fleet.adapters import forge_client
from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.forge_client import HubClient
from fleet.adapters.redis_client import RedisAddress, connect
from fleet.adapters.shard_store import ShardStore
from fleet.chaos.proxy import Fault, Proxy, to_socket
from fleet.core.effects import EffectKind
from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, EventData, GatesFailed, Heartbeat, PublishFailed, PublishProblem, Source
from fleet.core.states import State
from fleet.core.view import TicketView
from fleet.gateway.app import Patience
from fleet.gateway.books import Upstream
from supervisor.admission import Caps
from supervisor.policy import Policy
from supervisor.service import Supervisor
from tests.gateway.conftest import Place, place, store
from tests.supervisor.conftest import accounts, new_world, server, world
from tests.supervisor.world import World
from tests.support.clock import FixedDice, VirtualClock
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually
from workers.spool import Spool
from workers.voice import Ear, Voice

__all__ = ["accounts", "new_world", "place", "server", "store", "world"]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="fp-"))
    yield made
    shutil.rmtree(made)


# --- the store -----------------------------------------------------------------------------------------------------
MINUTES = 1
# More than one would only make the test wait: the pauses between them are real ones.
TRIES = 1


def an_outage(world: World, folder: Path, fault: Fault) -> None:
    """The store is away for a minute of the supervisor's clock, while an attempt lives and a ticket comes."""
    address = world._server.address
    assert address.socket is not None
    proxy = Proxy(to_socket(address.socket), folder / "store.sock")
    behind: RedisAddress = replace(address, socket=folder / "store.sock")
    client = connect(behind, "supervisor", world._server.password(Role.SUPERVISOR), socket_timeout=0.3, retries=TRIES)
    shards = ShardStore(client, "behind")
    shards.open("incarnation-1")
    supervisor = Supervisor(shards, world.players, world.clock, FixedDice(), Policy(), Caps())
    alive, late = ticket(1), ticket(2)
    try:
        world.running(supervisor, alive)
        proxy.fail(fault)
        begun, passes = world.clock.monotonic(), [0]

        def over() -> bool:
            passes[0] += 1
            assert passes[0] <= 45 * MINUTES, "this spins"
            return world.clock.monotonic() - begun >= 60 * MINUTES

        supervisor.run(over)
        if fault is not Fault.REFUSE:
            assert 0 < proxy.connections <= 40 * (1 + TRIES) * MINUTES, f"{proxy.connections} in {MINUTES} min"
        world.players.accept(late)
        proxy.mend()
        world.turns(supervisor, 3, seconds=1)
        world.players.attempt_says(alive.id, 1, Heartbeat(1))
        world.turns(supervisor, 6, seconds=1)
        view = world.seen(alive)
        assert (view.state, view.attempt, view.failures) == (State.RUNNING, 1, ()), "the living were left alone"
        assert world.seen(late).state is State.STARTING, "what came meanwhile was not lost"
    finally:
        client.close()
        proxy.close()


@pytest.mark.invariant("I19")
@pytest.mark.invariant("I15")
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.RESET, Fault.CUT])
def test_without_its_store_a_supervisor_waits_and_loses_nothing(world: World, folder: Path, fault: Fault) -> None:
    an_outage(world, folder, fault)


def test_a_supervisor_that_spins_is_noticed(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("supervisor.service:Supervisor.once", "min(self._pause * 2, 2.0)", "0.01").install(monkeypatch)
    with pytest.raises(AssertionError, match="this spins"):
        an_outage(world, folder, Fault.RESET)


# --- the forge -----------------------------------------------------------------------------------------------------
FORGE_FAULTS: dict[str, tuple[Fault, int, tuple[str, ...], int, int]] = {
    # fault, status, headers → most requests of a reading (with one repetition), of a creation (with none)
    "refused": (Fault.REFUSE, 0, (), 0, 0),
    "reset": (Fault.RESET, 0, (), 2, 1),
    "stalled": (Fault.STALL, 0, (), 2, 1),
    "5xx": (Fault.STATUS, 503, (), 2, 1),
    "429 with retry-after": (Fault.STATUS, 429, ("Retry-After: 77",), 1, 1),
    "secondary limit": (Fault.STATUS, 403, ("Retry-After: 77",), 1, 1),
}


@pytest.mark.invariant("I19")
@pytest.mark.parametrize("name", FORGE_FAULTS)
def test_a_forge_that_fails_is_asked_a_bounded_number_of_times(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, status, headers, most_read, most_written = FORGE_FAULTS[name]
    monkeypatch.setattr(forge_client, "_TIMEOUT_S", 1)
    proxy = Proxy(to_socket(folder / "nobody"))
    hub = HubClient(f"{proxy.url}/api/v3", "token", SystemClock(), retries=1)
    try:
        proxy.fail(fault, status, *headers)
        with pytest.raises(TemporaryError) as caught:
            hub.issue("local/demo", 1)
        reading = max(proxy.connections, len(proxy.requests))
        assert reading <= most_read
        with pytest.raises(TemporaryError):
            hub.create_issue("local/demo", "t", "b")
        assert max(proxy.connections, len(proxy.requests)) - reading <= most_written
        assert caught.value.retry_after == (77.0 if headers else None)
    finally:
        proxy.close()


@pytest.mark.invariant("I19")
@pytest.mark.parametrize("stage", ["gating", "publishing"])
def test_a_forge_that_is_away_for_an_hour_delays_a_ticket_and_nothing_more(world: World, stage: str) -> None:
    """Gates cannot fetch the base, or the publisher cannot push: tried again, seldom, until the forge is back."""
    supervisor, wanted = world.make(), ticket()
    world.players.accept(wanted)
    kind = EffectKind.RUN_GATES if stage == "gating" else EffectKind.PUBLISH
    role, source = ("gates", Source.GATES) if stage == "gating" else ("publisher", Source.PUBLISHER)
    until, tried = world.clock.monotonic() + 3600, 0
    while world.clock.monotonic() < until:
        world.turns(supervisor, 2, seconds=10)
        woken, world.players.woken = world.players.woken, []
        for effect in {effect.id: effect for effect in woken}.values():
            if effect.kind is not kind:
                world.players.woken.append(effect)
            elif world.ledgers[role].begin(role, effect, "w"):
                tried += 1
                away: EventData = GatesFailed(effect.round, "no forge", outage=True)
                if stage == "publishing":
                    away = PublishFailed(effect.round, PublishProblem.FORGE_DOWN, "no forge")
                world.players.say(role, source, wanted.id, 1, away)
        world.players.act_all()
    assert 3 <= tried <= 12, "a bounded number of calls an hour"
    assert world.seen(wanted).state.value == stage
    world.clock.advance(900)
    world.until_quiet(supervisor)
    view = world.seen(wanted)
    assert (view.state, view.attempt) == (State.IN_REVIEW, 1), "nobody had to help, and no work was done twice"


# --- an attempt ----------------------------------------------------------------------------------------------------
class NoLedger:
    """A channel whose ledger is away; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def commands(self, *_: object) -> Sequence[tuple[str, bytes]]:
        self.asked += 1
        raise TemporaryError("The ledger does not answer.")

    def send(self, events: Sequence[Envelope]) -> None:
        self.asked += 1
        raise TemporaryError("The ledger does not answer.")

    def claim(self, ticket: str, attempt: int, owner: str) -> bool:
        raise TemporaryError("The ledger does not answer.")

    def view(self, ticket: str) -> TicketView | None:
        raise TemporaryError("The ledger does not answer.")


class Ending(VirtualClock):
    """Ends the listening when a minute is over."""

    def __init__(self) -> None:
        super().__init__()
        self.over: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.monotonic() >= 60.0:
            self.over()


@pytest.mark.invariant("I19")
def test_an_attempt_asks_an_absent_ledger_ever_more_seldom(folder: Path) -> None:
    channel, clock = NoLedger(), Ending()
    one = ticket()
    voice = Voice(channel, one, 1, Spool(folder / "spool"), clock)
    ear = Ear(channel, one.id, 1, voice, clock, lambda _: None, lambda _: None)
    clock.over = ear.close
    ear.start()
    assert eventually(lambda: clock.monotonic() >= 60.0)
    assert 5 <= channel.asked <= 20, f"{channel.asked} calls in a minute"


# --- a model provider ----------------------------------------------------------------------------------------------
def call(http: httpx2.Client, place: Place, key: str) -> httpx2.Response:
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return http.post("http://gateway/anthropic/v1/messages", json=body, headers=headers)


@pytest.fixture
def provider(place: Place) -> Iterator[Proxy]:
    """A provider of models that nobody is behind; the gateway has its address."""
    proxy = Proxy(to_socket(place.folder / "rehearsal.sock"))
    place.upstreams["anthropic"] = Upstream(proxy.url)
    place.patience = Patience(head=0.5)
    yield proxy
    proxy.close()


def a_limit_is_kept(place: Place, provider: Proxy) -> None:
    """Fifty calls of fifty attempts while the provider wants to be left alone: it hears of one."""
    view, http = place.at_work(), place.serve()
    provider.fail(Fault.STATUS, 429, "Retry-After: 600")
    answers = [call(http, place, place.key(view)) for _ in range(50)]
    assert {answer.status_code for answer in answers} == {429}
    assert all(int(answer.headers["retry-after"]) > 500 for answer in answers)
    assert len(provider.requests) == 1, "the pause is the whole fleet's"
    assert place.book.ticket(view.id).reserved == 0


@pytest.mark.invariant("I19")
@pytest.mark.invariant("I16")
def test_a_provider_that_wants_a_pause_gets_it_from_the_whole_fleet(place: Place, provider: Proxy) -> None:
    a_limit_is_kept(place, provider)


def test_a_gateway_that_parks_nobody_is_noticed(place: Place, provider: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.gateway.books:Books.grant", "if wait > 0:", "if False:").install(monkeypatch)
    with pytest.raises(AssertionError):
        a_limit_is_kept(place, provider)


@pytest.mark.invariant("I19")
@pytest.mark.invariant("I8")
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.RESET, Fault.STALL, Fault.CUT, Fault.STATUS])
def test_a_provider_that_fails_costs_one_call_each_and_holds_no_money(
    place: Place, provider: Proxy, fault: Fault
) -> None:
    view, http = place.at_work(), place.serve()
    provider.fail(fault, 503)
    for _ in range(3):
        answer = call(http, place, place.key(view))
        assert answer.status_code in (502, 503)
    assert len(provider.requests) <= 3, "the gateway asks once for each call it was asked"
    spent = place.book.ticket(view.id)
    assert (spent.reserved, spent.calls) == (0, 3)
    provider.mend()
    assert call(http, place, place.key(view)).status_code == 404, "the one behind it answers again"
