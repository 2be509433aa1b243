"""A world whose supervisor has an archivist, and a look at what it keeps where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleet.adapters import keys
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.ledger import RedisLedger
from fleet.cli.tickets import whole_log
from fleet.core.effects import EffectKind
from fleet.core.events import (
    CancelRequested,
    Envelope,
    Source,
    StatusPosted,
    Withdrawn,
)
from fleet.core.ticket import Ticket
from supervisor.archive import Keeping
from supervisor.service import Supervisor
from tests.supervisor.world import World

DAY = 86_400.0
SMALL = Keeping(live_most=40, live_kept=10, segment_most=25)


class Room:
    """A world whose supervisor has an archivist, and who reads what it keeps."""

    def __init__(self, world: World, folder: Path, keeping: Keeping | None = None) -> None:
        self.world = world
        self.folder = folder
        self.artifacts = FolderArtifacts(folder)
        self.keeping = keeping
        self.supervisor = self.owner()
        self.ledger = RedisLedger(world.clients["people"], lambda: self.artifacts)

    def owner(self, name: str = "one") -> Supervisor:
        return self.world.make(name, archivist=self.world.archivist(self.artifacts, self.keeping))

    def passes(self, seconds: float) -> None:
        """Time goes by; the archivist looks around every ten seconds."""
        self.world.clock.advance(seconds)
        for _ in range(3):
            self.world.turns(self.supervisor, 1, 11.0)

    def ends(self, wanted: Ticket) -> None:
        """Published, cancelled, compensated and told."""
        self.world.players.accept(wanted)
        self.world.until_quiet(self.supervisor)
        self.world.players.person(wanted.id, CancelRequested("ada", "enough"))
        self.world.turns(self.supervisor)
        self.told(wanted)

    def told(self, wanted: Ticket) -> None:
        """The publisher did what stands in the outbox."""
        say = self.world.players.say
        for effect in self.world.players.woken:
            if effect.ticket == wanted.id and effect.kind is EffectKind.WITHDRAW:
                self.world.players._ledgers["publisher"].begin("publisher", effect, "p")
        say("publisher", Source.PUBLISHER, wanted.id, 1, Withdrawn(7))
        say("publisher", Source.PUBLISHER, wanted.id, 1, StatusPosted(10_000))
        self.world.turns(self.supervisor)

    def stream(self, wanted: Ticket) -> int:
        return self.world.clients["admin"].xlen(keys.log(wanted.id))

    def log(self, wanted: Ticket) -> list[Envelope]:
        return whole_log(self.ledger, wanted.id)

    def keys_of(self, wanted: Ticket) -> set[str]:
        """Every key, and every field of a hash or set, that names the ticket."""
        admin, found = self.world.clients["admin"], set()
        for key in admin.scan_iter("*", count=1000):
            name, kind = key.decode(), admin.type(key)
            inside: list[Any] = []
            if kind == b"hash":
                inside = list(admin.hkeys(key))
            elif kind == b"set":
                inside = list(admin.smembers(key))
            elif kind == b"zset":
                inside = list(admin.zrange(key, 0, -1))
            if wanted.id in name:
                found.add(name)
            found |= {f"{name} {field.decode()}" for field in inside if wanted.id in field.decode()}
        return found
