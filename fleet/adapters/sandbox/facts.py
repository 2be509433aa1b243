"""What this machine offers a sandbox. A value, so that tests can take tiers away one by one."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters import process
from fleet.core.errors import FleetError

CLEAN_PATH = "/usr/local/bin:/usr/bin:/bin"
_LANDLOCK_CREATE_RULESET = 444
_VERSION_QUERY = 1


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """``user_namespaces`` is what the settings say; whether it is true, the hostile probe finds out.

    ``namespace_mend`` is the one command that would allow them. ``landlock_abi`` 0 means no Landlock.
    """

    machine: str
    kernel: str
    boot: str
    uid: int
    bwrap: str | None
    bwrap_version: tuple[int, ...]
    user_namespaces: bool
    namespace_mend: str
    landlock_abi: int
    linux: bool = True


def detect() -> SystemFacts:
    """The facts of the machine that this runs on. Never raises."""
    bwrap = shutil.which("bwrap", path=CLEAN_PATH)
    allowed, mend = _user_namespaces()
    return SystemFacts(
        machine=platform.machine(),
        kernel=platform.release(),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        uid=os.geteuid(),
        bwrap=bwrap,
        bwrap_version=_bwrap_version(bwrap),
        user_namespaces=allowed,
        namespace_mend=mend,
        landlock_abi=_landlock_abi(),
        linux=sys.platform == "linux",
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _bwrap_version(bwrap: str | None) -> tuple[int, ...]:
    if bwrap is None:
        return ()
    try:
        answer = process.run([bwrap, "--version"], cwd="/", env={"PATH": CLEAN_PATH}, timeout=10)
    except FleetError:
        return ()
    found = re.search(rb"(\d+(?:\.\d+)+)", answer.stdout)
    return tuple(int(part) for part in found.group(1).split(b".")) if found else ()


def _user_namespaces() -> tuple[bool, str]:
    switches = {
        "user.max_user_namespaces": ("0", "15000"),
        "kernel.unprivileged_userns_clone": ("0", "1"),
        "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    }
    for name, (off, mended) in switches.items():
        if _read("/proc/sys/" + name.replace(".", "/")) == off:
            return False, f"sudo sysctl -w {name}={mended}"
    return True, ""


def _landlock_abi() -> int:
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    answer = libc.syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_QUERY)
    )
    return max(0, int(answer))
