"""One command in each sandbox tier, beside a bare bubblewrap that protects from little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet.adapters.process import run
from fleet.adapters.sandbox import detect, open_sandbox, probe_tiers
from fleet.adapters.slots import Slot, give
from fleet.bench.figures import Figure, Report, Target, Unit, differences, side_by_side
from fleet.bench.rooms import Bench, home
from fleet.core.errors import InternalError, UsageError
from fleet.core.sandbox import Sandbox, SandboxSpec, Tier
from fleet.local.wiring import Wiring

COMMAND = ("/usr/bin/true",)
ADDED = Target(0.015)


def measure(bench: Bench) -> Report:
    """The same command in turns. Raises UsageError where bubblewrap is not installed: there is no reference."""
    bwrap = detect().bwrap
    if bwrap is None:
        raise UsageError("bubblewrap is not installed, so there is nothing to compare with.", "Install bubblewrap.")
    rounds = bench.few(60, 10)
    figures: list[Figure] = []
    with home(bench) as made:
        made.make()
        wiring = Wiring(made, made.settings())
        for report in probe_tiers():
            if not report.available:
                continue
            with wiring.slots.acquire("bench") as slot:
                give(slot.folder, slot.uid, slot.gid)
                sandbox = _open(wiring, slot, report.tier)
                figures += _tier(bench, rounds, sandbox, slot.folder, _bare(bench, bwrap, slot, wiring.layout.as_root))
    return Report("sandbox", "start, watch and end one command (true), in turns with a bare bwrap", tuple(figures))


def _tier(bench: Bench, rounds: int, sandbox: Sandbox, workspace: Path, bare: Callable[[], float]) -> list[Figure]:
    ours = in_sandbox(bench, sandbox, workspace)
    side_by_side(1, ours, bare)
    mine, reference = side_by_side(rounds, ours, bare)
    name = sandbox.tier.value
    return [
        Figure(f"{name} tier", Unit.MS, mine),
        Figure(
            f"bare bwrap beside {name}" if sandbox.tier is not Tier.BUBBLEWRAP else "bare bwrap", Unit.MS, reference
        ),
        Figure(f"{name} adds", Unit.MS, differences(mine, reference), ADDED),
    ]


def _open(wiring: Wiring, slot: Slot, tier: Tier) -> Sandbox:
    uid, gid = (slot.uid, slot.gid) if wiring.layout.as_root else (None, None)
    return open_sandbox(scratch=wiring.scratch, clock=wiring.clock, slot_uid=uid, slot_gid=gid, allow=(tier,))


def in_sandbox(bench: Bench, sandbox: Sandbox, workspace: Path) -> Callable[[], float]:
    spec = SandboxSpec(COMMAND, workspace)

    def once() -> float:
        begun = bench.clock.monotonic()
        result = sandbox.run(spec)
        seconds = bench.clock.monotonic() - begun
        if not result.ok:
            raise InternalError(f"true ended with {result.exit_code} in the {sandbox.tier.value} sandbox.")
        return seconds

    return once


def _bare(bench: Bench, bwrap: str, slot: Slot, drop: bool) -> Callable[[], float]:
    """Only the namespaces, as the same user: what any use of bubblewrap costs."""
    words = (bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", *COMMAND)
    user = slot.uid if drop else None

    def once() -> float:
        begun = bench.clock.monotonic()
        run(words, cwd="/", env={"PATH": "/usr/bin:/bin"}, user=user, group=slot.gid if drop else None)
        return bench.clock.monotonic() - begun

    return once
