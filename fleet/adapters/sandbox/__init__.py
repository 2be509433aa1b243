"""Sandboxes: which tiers this machine has, and opening the best one that proves itself.

There is no way to open a sandbox that was not proven, and no fallback to none (I9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet.adapters.sandbox import base, probe
from fleet.adapters.sandbox.bubblewrap import BubblewrapSandbox
from fleet.adapters.sandbox.facts import SystemFacts, detect
from fleet.adapters.sandbox.landlock import LandlockSandbox
from fleet.adapters.sandbox.null import NullSandbox
from fleet.adapters.sandbox.scratch import remove, sweep
from fleet.adapters.sandbox.syscalls import AUDIT_ARCH
from fleet.core.errors import InternalError, ParkError
from fleet.core.ports import Clock
from fleet.core.sandbox import Enforced, Sandbox, Tier

__all__ = [
    "BubblewrapSandbox",
    "LandlockSandbox",
    "NullSandbox",
    "SystemFacts",
    "TierReport",
    "detect",
    "matrix",
    "open_sandbox",
    "probe_tiers",
    "remove",
    "sweep",
]

MIN_BWRAP = (0, 8)
MIN_LANDLOCK = 6
INSTALL_BWRAP = "sudo apt-get install -y bubblewrap"
REAL_TIERS = (Tier.BUBBLEWRAP, Tier.LANDLOCK)


@dataclass(frozen=True, slots=True)
class TierReport:
    """One tier on this machine: ``reason`` says why it is missing, ``mend`` is the one command that would bring it."""

    tier: Tier
    available: bool
    reason: str = ""
    mend: str = ""
    enforced: Enforced | None = None

    def to_dict(self) -> dict[str, object]:
        held = asdict(self.enforced) if self.enforced else None
        return {
            "tier": self.tier.value,
            "available": self.available,
            "reason": self.reason,
            "mend": self.mend,
            "enforced": held,
        }


def probe_tiers(system: SystemFacts | None = None) -> list[TierReport]:
    """What the facts of the machine promise, best tier first. Starts nothing; only ``open_sandbox`` proves."""
    facts = system or detect()
    return [_bubblewrap_report(facts), _landlock_report(facts)]


def open_sandbox(
    *,
    scratch: Path,
    clock: Clock,
    slot_uid: int | None = None,
    slot_gid: int | None = None,
    allow: Sequence[Tier] = REAL_TIERS,
    system: SystemFacts | None = None,
) -> Sandbox:
    """The best allowed tier whose hostile probe finds no way out.

    ``scratch``: a folder of the fleet that the sandbox's user may enter; it holds private temporary folders and proofs.
    ``slot_gid``: the group of all slots, by which a slot's user may enter the fleet's folders; None: ``slot_uid``.
    Raises ParkError(no_sandbox) with the one command that mends it; InternalError when asked to run as root.
    """
    facts = system or detect()
    uid, _ = base.identity(slot_uid, slot_gid)
    proofs = probe.ProofCache(scratch, facts)
    reports = []
    for report in probe_tiers(facts):
        if report.tier not in allow:
            continue
        if report.available:
            sandbox = build(report.tier, facts, scratch=scratch, clock=clock, slot_uid=slot_uid, slot_gid=slot_gid)
            if proofs.known(report.tier, uid):
                return sandbox
            proof = probe.prove(sandbox, scratch, slot_uid, slot_gid)
            if proof.holds:
                proofs.remember(report.tier, uid)
                return sandbox
            reports.append(TierReport(report.tier, False, proof.reason, _mend_after_probe(report.tier, facts)))
        else:
            reports.append(report)
    raise _no_sandbox(reports)


def build(
    tier: Tier,
    facts: SystemFacts,
    *,
    scratch: Path,
    clock: Clock,
    slot_uid: int | None,
    slot_gid: int | None = None,
) -> Sandbox:
    """The sandbox of ``tier`` without its proof: for ``open_sandbox`` and the tests alone."""
    if tier is Tier.BUBBLEWRAP:
        if facts.bwrap is None:
            raise InternalError("The bubblewrap tier needs the program bwrap.", INSTALL_BWRAP)
        return BubblewrapSandbox(
            bwrap=facts.bwrap, machine=facts.machine, clock=clock, slot_uid=slot_uid, slot_gid=slot_gid
        )
    if tier is Tier.LANDLOCK:
        return LandlockSandbox(
            machine=facts.machine, scratch=scratch, clock=clock, slot_uid=slot_uid, slot_gid=slot_gid
        )
    raise InternalError(f"The tier {tier.value} is not built here.")


def matrix(reports: Sequence[TierReport]) -> list[tuple[str, str, str]]:
    """Rows (tier, state, what is enforced or what mends it) for ``fleet doctor``."""
    rows = []
    for report in reports:
        if report.available and report.enforced is not None:
            held = report.enforced
            rows.append((report.tier.value, "available", f"{held.filesystem}; {held.network}; {held.process_tree}"))
        else:
            rows.append((report.tier.value, report.reason or "available", report.mend))
    return rows


def _bubblewrap_report(facts: SystemFacts) -> TierReport:
    tier = Tier.BUBBLEWRAP
    if not facts.linux or facts.machine not in AUDIT_ARCH:
        return TierReport(tier, False, f"there is no system call filter for {facts.machine} on this system")
    if facts.bwrap is None:
        return TierReport(tier, False, "the program bwrap is not installed", INSTALL_BWRAP)
    if facts.bwrap_version < MIN_BWRAP:
        found = ".".join(map(str, facts.bwrap_version)) or "unknown"
        return TierReport(tier, False, f"bwrap {found} is older than 0.8", INSTALL_BWRAP)
    if not facts.user_namespaces:
        return TierReport(tier, False, "the system forbids user namespaces", facts.namespace_mend)
    return TierReport(tier, True, enforced=BubblewrapSandbox.ENFORCED)


def _landlock_report(facts: SystemFacts) -> TierReport:
    tier = Tier.LANDLOCK
    if not facts.linux or facts.machine not in AUDIT_ARCH:
        return TierReport(tier, False, f"there is no system call filter for {facts.machine} on this system")
    if facts.landlock_abi < MIN_LANDLOCK:
        found = f"Landlock ABI {facts.landlock_abi}" if facts.landlock_abi else "no Landlock"
        return TierReport(tier, False, f"kernel {facts.kernel} has {found}, and 6 (Linux 6.12) is needed")
    return TierReport(tier, True, enforced=LandlockSandbox.ENFORCED)


def _mend_after_probe(tier: Tier, facts: SystemFacts) -> str:
    # the settings looked right and still it failed: inside a container only its owner can allow user namespaces
    if tier is Tier.BUBBLEWRAP and facts.landlock_abi < MIN_LANDLOCK:
        return "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined ..."
    return ""


def _no_sandbox(reports: Sequence[TierReport]) -> ParkError:
    reasons = "; ".join(f"{report.tier.value}: {report.reason}" for report in reports) or "no tier is allowed"
    mend = next((report.mend for report in reports if report.mend), "")
    hint = f"To mend it: {mend}" if mend else "Run `fleet doctor` on a machine with Linux 6.12 or bubblewrap."
    return ParkError("no_sandbox", f"No sandbox holds on this machine ({reasons}).", hint)
