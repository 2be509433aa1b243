"""What processes cost, read from /proc: CPU time and proportional memory. A process that ended costs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.sandbox import procfs
from fleet.core.errors import UsageError
from fleet.local.client import Client

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """``cpu`` in seconds of one core since the process began, ``pss`` in bytes: shared pages are divided by users."""

    name: str
    cpu: float
    pss: int


def cost(pid: int) -> Cost | None:
    """None when the process is gone. Raises UsageError where /proc does not tell."""
    folder = Path(f"/proc/{pid}")
    try:
        stat = (folder / "stat").read_text(errors="replace")
        rollup = (folder / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        if not Path("/proc/self/smaps_rollup").exists():
            raise UsageError("This system does not tell the memory of a process.", "Measure on Linux.") from None
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    return Cost(name, (int(fields[11]) + int(fields[12])) / _TICKS, pss_in(rollup))


def pss_in(rollup: str) -> int:
    """Bytes of the line ``Pss:`` of a smaps_rollup."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def costs(pids: Iterable[int]) -> dict[int, Cost]:
    found = {pid: cost(pid) for pid in pids}
    return {pid: one for pid, one in found.items() if one is not None}


def of_home(client: Client) -> tuple[int, ...]:
    """Every process of a running home: the host, all below it, the embedded store."""
    state = client.home.host_state()
    store = client.wiring.embedded.pid()
    host = [state.pid, *(row.pid for row in procfs.descendants(state.pid))] if state is not None else []
    return tuple([*host, *([store] if store else [])])


def table(before: Mapping[int, Cost], after: Mapping[int, Cost], seconds: float) -> tuple[str, ...]:
    """A line per process: share of one core between the two looks, memory at the second."""
    rows = []
    for pid, now in after.items():
        earlier = before[pid].cpu if pid in before else 0.0
        share = 100 * (now.cpu - earlier) / seconds
        rows.append(f"{now.name:<18} {share:6.2f} % of a core {now.pss / 1_000_000:8.1f} MB PSS")
    return tuple(rows)


def per_piece(before: Mapping[int, Cost], after: Mapping[int, Cost], pieces: int) -> tuple[str, ...]:
    """A line per process: milliseconds of a core for each of ``pieces``, which no other load changes much."""
    spent = {pid: now.cpu - (before[pid].cpu if pid in before else 0.0) for pid, now in after.items()}
    rows = [f"{after[pid].name:<18} {1000 * seconds / pieces:7.2f} ms of a core each" for pid, seconds in spent.items()]
    return (*rows, f"{'all':<18} {1000 * sum(spent.values()) / pieces:7.2f} ms of a core each")
