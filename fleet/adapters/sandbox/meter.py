"""Polled limits of a process tree: tasks, memory, bytes written. What the kernel cannot hold per tree, this watches."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from fleet.adapters.sandbox import procfs
from fleet.core.ports import Clock
from fleet.core.sandbox import Ending, Limits

ENTRY_BYTES = 4096  # the least that a new directory entry counts, so that a million empty files are a full disk
_DEPTH = 400  # levels below a root; deeper counts as over the limit, because it cannot be measured
_INODE_BYTES = 1024  # kernel memory behind one file on a tmpfs
_WALK_SHARE = 20  # a walk may cost one part in this of the time
_WALK_EVERY = 0.5


class Meter:
    """Judges the tree at each ``check``. The law of disk: a file counts in full once it was touched after the start.

    ``roots`` are the writable folders, ``tmpfs`` a function from the tree's first pid to mounted memory file systems.
    """

    def __init__(
        self,
        limits: Limits,
        roots: Sequence[Path],
        clock: Clock,
        tmpfs: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._limits = limits
        self._roots = tuple(roots)
        self._clock = clock
        self._tmpfs = tmpfs
        self._born_ns = _filesystem_now()
        self._next_walk = clock.monotonic() + _WALK_EVERY
        self._free = self._blocks_free()

    def check(self, rows: Sequence[procfs.Row]) -> Ending | None:
        """The limit that the tree is over, or None."""
        if sum(one.threads for one in rows) > self._limits.processes:
            return Ending.PROCESSES
        if self._memory_over(rows):
            return Ending.MEMORY
        now = self._clock.monotonic()
        if now >= self._next_walk or self._filling():
            self._free = self._blocks_free()
            over = self._disk_over(rows)
            spent = self._clock.monotonic() - now
            self._next_walk = now + max(_WALK_EVERY, _WALK_SHARE * spent)
            if over:
                return Ending.DISK
        return None

    def finally_over(self) -> Ending | None:
        """The same judgement of the disk after the tree is dead: a short command may have written much."""
        return Ending.DISK if self._filling() and self._disk_over(()) else None

    def _memory_over(self, rows: Sequence[procfs.Row]) -> bool:
        held = sum(_tmpfs_bytes(path) for path in self._tmpfs())
        cap = self._limits.memory_bytes
        if held + sum(one.resident for one in rows) <= cap:
            return False
        shared = procfs.proportional(one.pid for one in rows)
        return shared is None or held + shared > cap

    def _filling(self) -> bool:
        # the free space of the file system is one cheap question; others write to it too, so it only prompts a walk
        now = self._blocks_free()
        quarter = self._limits.disk_bytes // 4
        return any(
            before[0] - after[0] > quarter or before[1] - after[1] > quarter // ENTRY_BYTES
            for before, after in zip(self._free, now, strict=True)
        )

    def _blocks_free(self) -> list[tuple[int, int]]:
        answers = []
        for root in self._roots:
            try:
                found = os.statvfs(root)
            except OSError:
                answers.append((0, 0))
            else:
                answers.append((found.f_bfree * found.f_frsize, found.f_ffree))
        return answers

    def _disk_over(self, rows: Sequence[procfs.Row]) -> bool:
        budget = self._limits.disk_bytes - _unlinked_bytes(rows)
        for root in self._roots:
            budget -= written_since(root, self._born_ns, budget)
            if budget < 0:
                return True
        return False


def written_since(root: Path, born_ns: int, enough: int) -> int:
    """Bytes of the entries below ``root`` changed at or after ``born_ns``; stops counting above ``enough``.

    Follows no symbolic link and holds each folder by descriptor, because the tree may change under the walk.
    """
    total = 0
    try:
        first = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    stack = [(first, os.scandir(first))]
    try:
        while stack and total <= enough:
            folder, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                entries.close()
                os.close(folder)
                stack.pop()
                continue
            try:
                facts = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
                if facts.st_ctime_ns >= born_ns:
                    total += max(ENTRY_BYTES, facts.st_blocks * 512)
                if stat.S_ISDIR(facts.st_mode):
                    if len(stack) > _DEPTH:
                        return enough + 1
                    below = os.open(
                        entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
                    )
                    stack.append((below, os.scandir(below)))
            except OSError:
                continue
    finally:
        for folder, entries in stack:
            entries.close()
            os.close(folder)
    return total


def _unlinked_bytes(rows: Sequence[procfs.Row]) -> int:
    """Bytes of files that were deleted while open, memory files among them; each counts once."""
    seen: dict[tuple[int, int], int] = {}
    for one in rows:
        try:
            names = os.listdir(f"/proc/{one.pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                facts = os.stat(f"/proc/{one.pid}/fd/{name}")
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 0:
                seen[(facts.st_dev, facts.st_ino)] = facts.st_blocks * 512
    return sum(seen.values())


def _tmpfs_bytes(path: str) -> int:
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize + (found.f_files - found.f_ffree) * _INODE_BYTES


def _filesystem_now() -> int:
    # the kernel stamps files with its coarse clock, so the start is taken from a file too
    handle = os.memfd_create("start", os.MFD_CLOEXEC)
    try:
        return os.fstat(handle).st_ctime_ns
    finally:
        os.close(handle)
