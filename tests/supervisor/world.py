"""One world for a scenario: a real server, the roles' accounts, a virtual clock, played workers, driven supervisors.

A scenario is a test function that takes nothing but a ``World``: the same function shows that the fleet is right, and
that a fleet with a protection switched off is noticed (test_mutants.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fleet.adapters.acl import Role
from fleet.adapters.archive_store import ArchiveStore
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import FleetRedis, RedisAddress, connect
from fleet.adapters.shard_store import ShardStore
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import AttemptStarted
from fleet.core.ports import Artifacts
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from supervisor.admission import Caps
from supervisor.archive import Archivist, Keeping
from supervisor.policy import Policy
from supervisor.service import Supervisor
from tests.support.clock import FixedDice, VirtualClock
from tests.support.players import Players


class Server(Protocol):
    """A store and the passwords of its accounts."""

    @property
    def address(self) -> RedisAddress: ...

    def password(self, role: Role) -> str: ...


class World:
    """``clients``: one per role. Everything is new but the server, which is emptied."""

    def __init__(self, server: Server, clients: Mapping[str, FleetRedis]) -> None:
        self._server = server
        self.clients = clients
        self.ledgers = {role: RedisLedger(client) for role, client in clients.items()}
        self.clock = VirtualClock()
        self.players = Players(self.ledgers, self.clock)
        self._opened: list[FleetRedis] = []

    def store(self, name: str = "one") -> ShardStore:
        client = connect(self._server.address, "supervisor", self._server.password(Role.SUPERVISOR))
        self._opened.append(client)
        store = ShardStore(client, name)
        store.open("incarnation-1")
        return store

    def ledger(self, role: Role) -> RedisLedger:
        """One more process of that role: an account's own connections."""
        client = connect(self._server.address, role.value, self._server.password(role))
        self._opened.append(client)
        return RedisLedger(client)

    def make(
        self,
        name: str = "one",
        caps: Caps | None = None,
        policy: Policy | None = None,
        archivist: Archivist | None = None,
    ) -> Supervisor:
        """A supervisor that moves only when the scenario turns it."""
        policy = policy or Policy(status_every=0.0)
        dice = FixedDice()
        return Supervisor(self.store(name), self.players, self.clock, dice, policy, caps or Caps(), archivist)

    def archivist(self, artifacts: Artifacts, keeping: Keeping | None = None) -> Archivist:
        return Archivist(ArchiveStore(self.clients["supervisor"]), artifacts, self.clock, keeping)

    def close(self) -> None:
        for client in self._opened:
            client.close()

    def turns(self, supervisor: Supervisor, count: int = 6, seconds: float = 0.6) -> None:
        for _ in range(count):
            self.clock.advance(seconds)
            supervisor.turn(0)

    def until_quiet(self, supervisor: Supervisor) -> None:
        """Turns and healthy workers until nothing is woken any more."""
        for _ in range(12):
            self.turns(supervisor, 3)
            self.players.act_all()

    def seen(self, wanted: Ticket) -> TicketView:
        view = self.ledgers["people"].view(wanted.id)
        assert view is not None
        return view

    def ordered(self, wanted: Ticket, kind: EffectKind) -> list[Effect]:
        """What was woken of this kind for the ticket, oldest first."""
        return [effect for effect in self.players.woken if effect.ticket == wanted.id and effect.kind is kind]

    def running(self, supervisor: Supervisor, wanted: Ticket) -> Effect:
        """Brings a fresh ticket to a claimed first attempt."""
        self.players.accept(wanted)
        self.turns(supervisor)
        (effect,) = self.ordered(wanted, EffectKind.START_ATTEMPT)
        ledger = self.ledgers["attempt"]
        assert ledger.begin("agents", effect, "guard")
        started = AttemptStarted("h", 1, wanted.agent, ledger.incarnation())
        self.players.attempt_says(wanted.id, effect.attempt, started)
        self.players.woken.clear()
        self.turns(supervisor, 2)
        return effect
