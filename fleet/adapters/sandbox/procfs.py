"""The process tree and its memory, read from /proc. Every reader bears a process that ends meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_EXEC_READS = 100
_EXEC_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class Row:
    """One process: ``resident`` bytes count shared pages in full; ``cpu``: seconds used, with dead children.

    ``virtual``: bytes of address space; a thread of the kernel has none.
    """

    pid: int
    parent: int
    state: str
    threads: int
    resident: int
    cpu: float = 0.0
    virtual: int = 0


def row(pid: int) -> Row | None:
    """The process ``pid``, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            text = handle.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold spaces and parentheses
    cpu = sum(map(int, fields[11:15])) / _TICKS
    return Row(pid, int(fields[1]), fields[0].decode(), int(fields[17]), int(fields[21]) * _PAGE, cpu, int(fields[20]))


def everything() -> Iterator[Row]:
    """All processes of the machine that this uid may see."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = row(int(name))
            if found is not None:
                yield found


def descendants(root: int) -> list[Row]:
    """The live processes below ``root``, without it. Zombies count for nothing and are left out."""
    found: list[Row] = []
    waiting = list(_children(root))
    seen: set[int] = set()
    while waiting:
        pid = waiting.pop()
        if pid in seen:
            continue
        seen.add(pid)
        one = row(pid)
        if one is None:
            continue
        if one.state not in "ZX":
            found.append(one)
        waiting.extend(_children(pid))
    return found


def proportional(pids: Iterable[int]) -> int | None:
    """Memory in bytes with shared pages divided among their users; None when a kernel or uid does not tell."""
    total = 0
    told = False
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as handle:
                text = handle.read()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) * 1024
                told = True
                break
    return total if told else None


def environment(one: Row) -> bytes:
    """The first environment of a process; nothing for one that is gone or may not be read.

    In the midst of an exec the old words and environment are gone and the new ones not told yet: taken for a process
    without an environment, it would be missed and outlive the folder that it works in.
    """
    if not one.virtual:  # a thread of the kernel, or a process that has just ended
        return b""
    try:
        worded = False
        for _ in range(_EXEC_READS):
            found = _content(f"/proc/{one.pid}/environ")
            if found or worded:
                return found
            worded = bool(_content(f"/proc/{one.pid}/cmdline"))  # the words come a moment before the environment
            time.sleep(_EXEC_PAUSE_S)
    except OSError:
        pass
    return b""


def mentioning(folder: Path) -> list[int]:
    """Live processes whose first environment names ``folder`` or something below it; never this process."""
    wanted = os.fsencode(folder)
    found: list[int] = []
    for one in everything():
        if one.pid == os.getpid() or one.state in "ZX":
            continue
        named = (value.partition(b"=")[2] for value in environment(one).split(b"\0"))
        if any(value == wanted or value.startswith(wanted + b"/") for value in named):
            found.append(one.pid)
    return found


def owned_by(uid: int) -> list[int]:
    """Live processes of ``uid``."""
    found: list[int] = []
    for one in everything():
        try:
            owner = os.stat(f"/proc/{one.pid}").st_uid
        except OSError:
            continue
        if owner == uid and one.state not in "ZX":
            found.append(one.pid)
    return found


def tasks_of(uid: int) -> int:
    """How many threads run under ``uid``, as RLIMIT_NPROC counts them outside a user namespace."""
    count = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            owner = os.stat(f"/proc/{name}").st_uid
        except OSError:
            continue
        if owner == uid:
            one = row(int(name))
            count += one.threads if one else 0
    return count


def _content(path: str) -> bytes:
    with open(path, "rb") as handle:
        return handle.read()


def _children(pid: int) -> Iterator[int]:
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as handle:
                yield from map(int, handle.read().split())
    except FileNotFoundError:
        # a kernel without that file, unless the process is just gone
        if os.path.exists(f"/proc/{pid}/stat"):
            yield from (one.pid for one in everything() if one.parent == pid)
    except OSError:
        return
