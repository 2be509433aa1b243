"""Made environments on disk: one folder per digest, one lock per digest, a marker that is written last.

Law: a folder without its marker is never used and is removed by the next maker, who holds the lock that the kernel
takes back from a killed one. The lock's descriptor is inherited by nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.environments.fetch import size_of
from fleet.adapters.slots import remove_tree
from fleet.core.ports import Clock

MARKER = "ready.json"
_LOCKS = ".locks"


@dataclass(frozen=True, slots=True)
class Made:
    """What the marker says of a finished folder."""

    folder: Path
    description: str
    problems: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()

    def fact(self, name: str) -> str:
        return dict(self.facts).get(name, "")


class Store:
    """The folders below ``root``, which exists and is ours alone to write."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock

    def folder(self, digest: str) -> Path:
        return self._root / digest

    def find(self, digest: str) -> Made | None:
        """The finished folder, which now counts as just used; None when it is missing or half-made."""
        marker = self.folder(digest) / MARKER
        try:
            data = json.loads(marker.read_bytes())
            now = self._clock.now()
            os.utime(marker, (now, now))
            return Made(
                self.folder(digest),
                data["description"],
                tuple(data["problems"]),
                tuple((key, value) for key, value in data["facts"].items()),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextmanager
    def making(self, digest: str) -> Iterator[Path | None]:
        """A fresh folder to fill under the digest's lock; None when somebody else finished it meanwhile."""
        with self._locked(digest, wait=True):
            if self.find(digest) is not None:
                yield None
                return
            folder = self.folder(digest)
            remove_tree(folder) if os.path.lexists(folder) else None
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
            try:
                yield folder
            finally:
                if not (folder / MARKER).exists():
                    remove_tree(folder)

    def finish(self, made: Made) -> Made:
        """Writes the marker: from here on the folder is used."""
        temporary = made.folder / f"{MARKER}.new"
        data = {"description": made.description, "problems": list(made.problems), "facts": dict(made.facts)}
        with open(temporary, "w") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, made.folder / MARKER)
        return made

    def prune(self, max_bytes: int, idle_seconds: float) -> int:
        """Removes half-made folders, then the longest unused ones until ``max_bytes`` are left; returns bytes freed.

        Folders being made, or used within ``idle_seconds``, stay.
        """
        entries = []
        for folder in self._root.iterdir():
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            marker = folder / MARKER
            used = marker.stat().st_mtime if marker.exists() else 0.0
            entries.append((used, size_of(folder), folder))
        total = sum(size for _, size, _ in entries)
        freed = 0
        for used, size, folder in sorted(entries):
            if used and (total - freed <= max_bytes or used > self._clock.now() - idle_seconds):
                continue
            with self._locked(folder.name, wait=False) as held:
                if held:
                    remove_tree(folder)
                    freed += size
        return freed

    @contextmanager
    def _locked(self, digest: str, *, wait: bool) -> Iterator[bool]:
        locks = self._root / _LOCKS
        locks.mkdir(exist_ok=True, mode=0o700)
        handle = os.open(locks / digest, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)
