"""Reading a tree that an agent could write, as plain files: no link is followed, nothing in it is executed (I11).

Every step goes through a folder's descriptor with O_NOFOLLOW, so that a path can never lead out of the tree.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from fleet.adapters.git import printable
from fleet.core.errors import RefusedError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20


class TreeRefused(RefusedError):
    """The tree holds something that cannot be handed over; the message says what."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that is read: bytes of one file, bytes that differ from base, files, folders below one another."""

    file_bytes: int = 32 * 1024 * 1024
    changed_bytes: int = 128 * 1024 * 1024
    entries: int = 500_000
    depth: int = 128


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file or symlink. ``path`` is ``os.fsdecode``d, relative; ``mode`` as git writes it."""

    path: str
    mode: str
    sha: str
    content: bytes | None


def walk(
    root: str,
    caps: Caps,
    skip: Callable[[str, bool], bool],
    known: Callable[[str], str | None],
    owner: int | None = None,
) -> Iterator[Found]:
    """Every file and symlink below ``root``, sorted. Fifos, sockets and devices are passed over.

    ``skip(path, is_folder)`` leaves an entry out. ``known(path)`` is the blob that base has there: the content of a
    file that still is that blob is not kept. ``owner``: files of any other uid are refused (a planted hard link).
    """
    reader = _Reader(caps, skip, known, owner)
    descriptor = os.open(root, _DIRECTORY)
    try:
        yield from reader.folder(descriptor, "", 0)
    finally:
        os.close(descriptor)


class _Reader:
    def __init__(
        self, caps: Caps, skip: Callable[[str, bool], bool], known: Callable[[str], str | None], owner: int | None
    ) -> None:
        self._caps = caps
        self._skip = skip
        self._known = known
        self._owner = owner
        self._entries = 0
        self._changed = 0

    def folder(self, at: int, prefix: str, depth: int) -> Iterator[Found]:
        if depth > self._caps.depth:
            raise TreeRefused(f"{printable(prefix)} lies more than {self._caps.depth} folders deep.")
        for name in sorted(self._names(at, prefix)):
            self._entries += 1
            if self._entries > self._caps.entries:
                raise TreeRefused(f"The working copy holds more than {self._caps.entries} files.")
            path = prefix + name
            facts = os.stat(name, dir_fd=at, follow_symlinks=False)
            if self._skip(path, stat.S_ISDIR(facts.st_mode)):
                continue
            if stat.S_ISDIR(facts.st_mode):
                yield from self._below(at, name, path, depth)
            elif stat.S_ISLNK(facts.st_mode):
                yield self._symlink(at, name, path)
            elif stat.S_ISREG(facts.st_mode):
                yield self._file(at, name, path)

    def _names(self, at: int, prefix: str) -> list[str]:
        try:
            return os.listdir(at)
        except OSError as error:
            raise TreeRefused(f"The folder {printable(prefix) or '.'} cannot be read ({error.strerror}).") from error

    def _below(self, at: int, name: str, path: str, depth: int) -> Iterator[Found]:
        below = self._open(at, name, path, _DIRECTORY)
        try:
            yield from self.folder(below, path + "/", depth + 1)
        finally:
            os.close(below)

    def _symlink(self, at: int, name: str, path: str) -> Found:
        target = os.fsencode(os.readlink(name, dir_fd=at))
        return self._made(path, "120000", blob_sha(target), target)

    def _file(self, at: int, name: str, path: str) -> Found:
        descriptor = self._open(at, name, path, _FILE)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise TreeRefused(f"{printable(path)} changed while it was read.")
            if self._owner is not None and facts.st_uid != self._owner:
                raise TreeRefused(f"{printable(path)} belongs to another user.")
            if facts.st_size > self._caps.file_bytes:
                raise TreeRefused(
                    f"{printable(path)} has {facts.st_size} bytes; at most {self._caps.file_bytes} are handed over."
                )
            content = _read(descriptor, facts.st_size + 1)
            after = os.fstat(descriptor)
            if (after.st_size, after.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns) or len(
                content
            ) != facts.st_size:
                raise TreeRefused(f"{printable(path)} changed while it was read.")
        finally:
            os.close(descriptor)
        mode = "100755" if facts.st_mode & stat.S_IXUSR else "100644"
        return self._made(path, mode, blob_sha(content), content)

    def _open(self, at: int, name: str, path: str, flags: int) -> int:
        try:
            return os.open(name, flags, dir_fd=at)
        except PermissionError:
            # An agent may have taken its own permissions away; they come back by descriptor, never by name.
            with suppress(OSError):
                holder = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                try:
                    os.chmod(f"/proc/self/fd/{holder}", 0o700)
                finally:
                    os.close(holder)
                return os.open(name, flags, dir_fd=at)
            raise TreeRefused(f"{printable(path)} cannot be read.") from None
        except OSError as error:
            raise TreeRefused(f"{printable(path)} changed while it was read ({error.strerror}).") from error

    def _made(self, path: str, mode: str, sha: str, content: bytes) -> Found:
        if self._known(path) == sha:
            return Found(path, mode, sha, None)
        self._changed += len(content)
        if self._changed > self._caps.changed_bytes:
            raise TreeRefused(f"More than {self._caps.changed_bytes} bytes differ from the base commit.")
        return Found(path, mode, sha, content)


def blob_sha(content: bytes) -> str:
    """The name git gives to this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _read(descriptor: int, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < most and (part := os.read(descriptor, min(_CHUNK, most - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
