"""What git says about trees, diffs and pushes, as values. Paths are ``os.fsdecode``d: any bytes survive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from fleet.core.errors import InternalError

NO_BLOB = "0" * 40


@dataclass(frozen=True, slots=True)
class Person:
    """Author or committer."""

    name: str
    email: str

    def __post_init__(self) -> None:
        if not self.name.strip() or any(c in self.name + self.email for c in "<>\n\0"):
            raise InternalError(f"{self.name[:60]!r} <{self.email[:60]!r}> cannot stand in a commit.")


@dataclass(frozen=True, slots=True)
class FileChange:
    """One changed path. ``status``: A, D, M, T (type), R (renamed). Modes are octal text, ``000000`` = absent."""

    path: str
    old_path: str
    status: str
    old_mode: str
    new_mode: str
    old_blob: str
    new_blob: str


@dataclass(frozen=True, slots=True)
class NumStat:
    """Lines of one changed path; None for a binary."""

    path: str
    old_path: str
    insertions: int | None
    deletions: int | None


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file of a commit. ``mode``: 100644, 100755, 120000 (symlink, blob = target), 160000 (submodule)."""

    path: str
    mode: str
    blob: str
    size: int


@dataclass(frozen=True, slots=True)
class MergeResult:
    """``tree`` of a clean merge; None and the conflicting paths otherwise."""

    tree: str | None
    conflicts: tuple[str, ...] = ()


class PushStatus(Enum):
    """OK also when the remote already had exactly this commit there. STALE: the ref is not what was expected."""

    OK = "ok"
    STALE = "stale"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class PushResult:
    status: PushStatus
    detail: str = ""


def printable(path: str) -> str:
    """``path`` for people, JSON and terminals: undecodable bytes and control characters escaped."""
    out = []
    for c in path:
        if 0xDC80 <= ord(c) <= 0xDCFF:
            out.append(f"\\x{ord(c) - 0xDC00:02x}")
        elif c.isprintable():
            out.append(c)
        else:
            out.append(c.encode("unicode_escape").decode())
    return "".join(out)


def parse_raw(data: bytes) -> Iterator[FileChange]:
    """``git diff-tree -r -z --raw --no-abbrev`` output."""
    fields = iter(data.split(b"\0"))
    for head in fields:
        if not head.startswith(b":"):
            continue
        old_mode, new_mode, old_blob, new_blob, status = head[1:].decode("ascii").split(" ")
        old_path = os.fsdecode(next(fields))
        path = os.fsdecode(next(fields)) if status[0] in "RC" else old_path
        yield FileChange(path, old_path, status[0], old_mode, new_mode, old_blob, new_blob)


def parse_numstat(data: bytes) -> Iterator[NumStat]:
    """``git diff-tree -r -z --numstat`` output; a rename has an empty path and then both."""
    fields = iter(data.split(b"\0"))
    for head in fields:
        parts = head.split(b"\t", 2)
        if len(parts) != 3:
            continue
        old_path = os.fsdecode(parts[2] or next(fields))
        path = old_path if parts[2] else os.fsdecode(next(fields))
        yield NumStat(path, old_path, *(None if part == b"-" else int(part) for part in parts[:2]))


def parse_tree(data: bytes) -> Iterator[TreeEntry]:
    """``git ls-tree -r -z -l`` output."""
    for line in data.split(b"\0"):
        if line:
            head, _, path = line.partition(b"\t")
            mode, _, blob, size = head.decode("ascii").split()
            yield TreeEntry(os.fsdecode(path), mode, blob, 0 if size == "-" else int(size))


def parse_push(data: bytes, ref: str) -> PushResult | None:
    """``git push --porcelain`` output: what became of ``ref``; None when it does not say."""
    for line in data.decode("utf-8", "replace").splitlines():
        parts = line.split("\t")
        if len(parts) < 3 or parts[1].partition(":")[2] != ref:
            continue
        if parts[0] != "!":
            return PushResult(PushStatus.OK, parts[2])
        stale = "stale info" in parts[2] or "fetch first" in parts[2] or "non-fast-forward" in parts[2]
        # A remote that lost the race between its advertisement and our update says so in its own words.
        raced = "failed to update ref" in parts[2] or "cannot lock ref" in parts[2] or "incorrect old value" in parts[2]
        return PushResult(PushStatus.STALE if stale or raced else PushStatus.REJECTED, parts[2])
    return None
