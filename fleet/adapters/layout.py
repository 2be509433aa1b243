"""Where everything of one fleet home lies on disk. Nothing else builds such a path by hand.

As an ordinary user everything is below ``home`` (0700). As root the folders that sandboxed slots must reach lie
below ``/var/lib/fleet/work-<digest of home>``, group-owned by the slots, because a dropped uid cannot pass a
0700 home.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from fleet.core.errors import UsageError

ROOT_WORK = Path("/var/lib/fleet")
FIRST_SLOT_UID = 2_130_000
SLOTS_PER_HOME = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """``uid`` is the uid the fleet itself runs as."""

    home: Path
    uid: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:10]

    @property
    def as_root(self) -> bool:
        return self.uid == 0

    @property
    def work(self) -> Path:
        """Parent of all that sandboxed commands may see."""
        return ROOT_WORK / f"work-{self.digest}" if self.as_root else self.home / "work"

    @property
    def runtime(self) -> Path:
        """Short and private, for sockets (a unix socket's path has 107 bytes at most) and locks."""
        parent = Path("/run") if self.as_root else Path("/tmp")
        return parent / f"fleet-{self.uid}-{self.digest}"

    @property
    def mirrors(self) -> Path:
        return self.work / "mirrors"

    @property
    def slots(self) -> Path:
        return self.work / "slots"

    @property
    def environments(self) -> Path:
        return self.work / "environments"

    @property
    def stores(self) -> Path:
        """The fleet's own bare repositories, one per forge repository, where H is built and pushed from."""
        return self.home / "stores"

    @property
    def redis(self) -> Path:
        return self.home / "redis"

    @property
    def forge(self) -> Path:
        return self.home / "forge"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def attempts(self) -> Path:
        """Locks and spools of the attempts that run on this host."""
        return self.home / "attempts"

    @property
    def spend(self) -> Path:
        """What models cost, beside the store (``fleet.adapters.spend_journal``)."""
        return self.home / "spend"

    def slot_gid(self) -> int:
        """As root one group for all slots of this home, so that they can read mirrors; else our own group."""
        return FIRST_SLOT_UID + int(self.digest[:6], 16) % 10_000 * SLOTS_PER_HOME if self.as_root else os.getgid()

    def slot_uid(self, slot: int) -> int:
        return self.slot_gid() + slot if self.as_root else self.uid

    def make(self) -> None:
        """Creates the folders with the right owners and modes. Raises UsageError when the home is somebody else's."""
        for path in (self.home, self.runtime):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            owner = path.lstat()
            if owner.st_uid != self.uid or path.is_symlink():
                raise UsageError(
                    f"{path} belongs to uid {owner.st_uid}, not to you (uid {self.uid}).",
                    "Set FLEET_HOME to a folder of your own.",
                )
            path.chmod(0o700)
        private = (self.stores, self.redis, self.forge, self.artifacts, self.logs, self.secrets, self.attempts)
        for path in private:
            path.mkdir(exist_ok=True, mode=0o700)
        self.work.mkdir(parents=True, exist_ok=True)
        for path in (self.work, self.mirrors, self.slots, self.environments):
            path.mkdir(exist_ok=True)
            if self.as_root:
                os.chown(path, 0, self.slot_gid())
            path.chmod(0o750)
