"""Which adapter stands behind which port, for one role in one process. The only place that knows both sides."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.git import BareRepo, HttpToken, store_name
from fleet.adapters.ids import SystemDice, SystemIds
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import (
    FleetRedis,
    RedisAddress,
    broker_options,
    broker_url,
    check_external,
    connect,
    parse_address,
)
from fleet.core.effects import WAKES, Effect
from fleet.core.routes import line_up
from fleet.core.sandbox import Enforced, Sandbox, SandboxResult, SandboxSpec, Tier
from fleet.core.settings import Layer, SandboxSettings, Settings, tighten
from fleet.core.ticket import TicketLimits
from fleet.local.forges import Forges
from fleet.local.home import Home

# What a command needs only now and then is imported where it is made: it would cost every command half a second.
# ``fleet.local.services`` imports all of it before the services are forked.
if TYPE_CHECKING:
    from fleet.adapters.artifacts import FolderArtifacts
    from fleet.adapters.celery_app import FleetCelery, Table
    from fleet.adapters.environments.kit import Room
    from fleet.adapters.environments.service import PythonEnvironments
    from fleet.adapters.forge_route import RoutedForge
    from fleet.adapters.mirror import Mirrors
    from fleet.adapters.slots import Slot, Slots
    from fleet.forge.store import ForgeStore

BOT = "fleet-bot"
REPO_FILE = ".fleet.toml"
OWNER = "local"
_WRITE = ("contents:write", "issues:write", "pull_requests:write", "statuses:write")
_PERSON = ("contents:write", "issues:write", "pull_requests:write", "pages:write")


class Wiring:
    """Collaborators of one process. ``forge_url``: where the local forge serves, without a final slash."""

    def __init__(self, home: Home, settings: Settings, forge_url: str = "") -> None:
        self.home = home
        self.settings = settings
        self.forge_url = forge_url
        self.forge_port = 0
        self.layout = home.layout
        self.clock = SystemClock()
        self.ids = SystemIds()
        self.dice = SystemDice()

    # --- the store -------------------------------------------------------------------------------------------------
    @functools.cached_property
    def embedded(self) -> EmbeddedRedis:
        return EmbeddedRedis(self.layout.home, self.layout.runtime, self.clock, self.ids)

    def open_store(self) -> RedisAddress:
        """Starts or finds the server; for the host. Raises UsageError when an external one would not keep records."""
        if self.home.redis_url:
            return check_external(self.home.redis_url, self.settings.home.durability)
        return self.embedded.ensure()

    @functools.cached_property
    def address(self) -> RedisAddress:
        return parse_address(self.home.redis_url) if self.home.redis_url else self.embedded.address

    def password(self, role: Role) -> str:
        return "" if self.home.redis_url else self.embedded.password(role)

    def client(self, role: Role) -> FleetRedis:
        return connect(self.address, role.value, self.password(role))

    def ledger(self, role: Role) -> RedisLedger:
        return RedisLedger(self.client(role), lambda: self.artifacts)

    def celery(self, role: Role, table: Table, on_revoke: Callable[[str], None] | None = None) -> FleetCelery:
        from fleet.adapters.celery_app import make_app  # noqa: PLC0415

        address = parse_address(self.home.broker_url) if self.home.broker_url else self.address
        url = broker_url(address, role.value, self.password(role))
        options = broker_options(address)
        return make_app(url, table, name=f"fleet-{role.value}", options=options, on_revoke=on_revoke)

    # --- files, git, sandbox ---------------------------------------------------------------------------------------
    @functools.cached_property
    def artifacts(self) -> FolderArtifacts:
        from fleet.adapters.artifacts import FolderArtifacts  # noqa: PLC0415

        return FolderArtifacts(self.layout.artifacts)

    @functools.cached_property
    def slots(self) -> Slots:
        from fleet.adapters.slots import Slots  # noqa: PLC0415

        return Slots(self.layout)

    def store(self, repo: str) -> BareRepo:
        """The fleet's own bare repository of owner/name."""
        return BareRepo.init(self.layout.stores / store_name(repo))

    def limits_in(self, name: str, repo: BareRepo, branch: str) -> TicketLimits:
        """The operator's limits of owner/name, its tenant's word included, tightened by ``[limits]`` of that branch.

        Raises SettingsError naming the line of a limit that is looser than the operator's.
        """
        return self.limits_from(name, repo.read(f"refs/heads/{branch}", REPO_FILE, 1 << 20), branch)

    def limits_from(self, repo: str, text: bytes | None, branch: str) -> TicketLimits:
        """The same, from the file's bytes."""
        floor = self.settings.limits_for(repo)
        if text is None:
            return floor
        return tighten(floor, Layer(f"{REPO_FILE} of {branch}", text.decode("utf-8", "replace")))

    def agents_from(self, text: bytes | None, branch: str, agent: str) -> tuple[str, ...]:
        """Who begins and who takes over, as the operator and ``[agents]`` of that branch's .fleet.toml say."""
        layer = None if text is None else Layer(f"{REPO_FILE} of {branch}", text.decode("utf-8", "replace"))
        return line_up(self.settings.agents, agent, layer)

    def mirrors(self) -> Mirrors:
        from fleet.adapters.mirror import Mirrors  # noqa: PLC0415

        return Mirrors(self.layout, self.read_origin)

    def open_sandbox(self, slot: Slot) -> Sandbox:
        from fleet.adapters.sandbox import open_sandbox  # noqa: PLC0415

        allowed = tuple(Tier(name) for name in self.settings.sandbox.tiers)
        uid, gid = (slot.uid, slot.gid) if self.layout.as_root else (None, None)
        sandbox = open_sandbox(scratch=self.scratch, clock=self.clock, slot_uid=uid, slot_gid=gid, allow=allowed)
        return Capped(sandbox, self.settings.sandbox)

    @property
    def scratch(self) -> Path:
        """Where the sandbox keeps proofs and private temporary folders; its user must be able to enter."""
        folder = self.layout.work / "scratch"
        folder.mkdir(exist_ok=True)
        if self.layout.as_root:
            os.chown(folder, 0, self.layout.slot_gid())
        folder.chmod(0o750)
        return folder

    @functools.cached_property
    def environments(self) -> PythonEnvironments:
        from fleet.adapters.environments.fetch import IndexSettings  # noqa: PLC0415
        from fleet.adapters.environments.service import PythonEnvironments  # noqa: PLC0415

        index = IndexSettings(env=self.home.env)
        return PythonEnvironments(self.layout, self.home.tools, self.room, index, self.clock)

    @contextmanager
    def room(self) -> Iterator[Room]:
        """A slot with a sandbox, for an installation."""
        from fleet.adapters.environments.kit import Room  # noqa: PLC0415
        from fleet.adapters.slots import give  # noqa: PLC0415

        with self.slots.acquire("environment") as slot:
            give(slot.folder, slot.uid, slot.gid)
            yield Room(self.open_sandbox(slot), slot.folder, slot.uid, slot.gid)

    # --- the local forge -------------------------------------------------------------------------------------------
    def forge_store(self) -> ForgeStore:
        from fleet.forge.store import ForgeStore  # noqa: PLC0415

        return ForgeStore(self.layout.forge, self.clock, self.ids)

    def tokens(self) -> Mapping[str, str]:
        """``read`` for mirrors, ``write`` for the publisher alone, ``person`` for the command line and the pages."""

        def make() -> Mapping[str, str]:
            forge = self.forge_store()
            try:
                forge.ensure_user(BOT, "Fleet", type="Bot")
                forge.ensure_user(OWNER)
                return {
                    "read": forge.issue_token(BOT, ("contents:read", "issues:read", "pull_requests:read")),
                    "write": forge.issue_token(BOT, _WRITE),
                    "person": forge.issue_token(OWNER, _PERSON),
                }
            finally:
                forge.close()

        return self.home.secret("forge", make)

    # --- the forge of a repository ---------------------------------------------------------------------------------
    @functools.cached_property
    def forges(self) -> Forges:
        return Forges(self)

    def read_origin(self, repo: str) -> tuple[str, HttpToken | None]:
        """Where git reads owner/name, and with what."""
        return self.forges.git_url(repo), self.forges.auth(repo, "read")

    def forge_client(self, purpose: str) -> RoutedForge:
        """``purpose``: ``read`` or ``write``."""
        from fleet.adapters.forge_route import RoutedForge  # noqa: PLC0415

        return RoutedForge(lambda repo: self.forges.client(repo, purpose))


class Capped:
    """A sandbox whose commands never get more than the operator's settings allow; a caller may ask for less."""

    def __init__(self, sandbox: Sandbox, most: SandboxSettings) -> None:
        self._sandbox = sandbox
        self._most = most

    @property
    def tier(self) -> Tier:
        return self._sandbox.tier

    @property
    def enforced(self) -> Enforced:
        return self._sandbox.enforced

    def inside(self, workspace: Path) -> Path:
        return self._sandbox.inside(workspace)

    def run(
        self,
        spec: SandboxSpec,
        on_output: Callable[[bytes], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SandboxResult:
        most, asked = self._most, spec.limits
        limits = replace(
            asked,
            memory_bytes=min(asked.memory_bytes, most.memory_bytes),
            processes=min(asked.processes, most.processes),
            disk_bytes=min(asked.disk_bytes, most.disk_bytes),
        )
        return self._sandbox.run(replace(spec, limits=limits), on_output, should_stop)


class CeleryWaker:
    """Implements ``fleet.core.ports.Waker``."""

    def __init__(self, celery: FleetCelery) -> None:
        self._celery = celery

    def wake(self, effect: Effect) -> None:
        queue, task = WAKES[effect.kind]
        ids = (effect.ticket, str(effect.attempt), str(effect.round), str(effect.turn))
        self._celery.wake(queue, task, ids, effect.id)


def host_name() -> str:
    return socket.gethostname()
