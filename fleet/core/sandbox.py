"""What a sandboxed command may see and use, and what came of it.

The one rule: no command that a model chose, and no gate, runs outside ``Sandbox.run`` (invariant I9).
Adapters live in ``fleet.adapters.sandbox``; constructing one proves its tier by a hostile probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

MIB = 1024 * 1024
GIB = 1024 * MIB


class Tier(Enum):
    """How a sandbox is built; the names stand in evidence and in ``fleet doctor``."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    POD = "pod"
    NULL = "null"  # only for `fleet bench`: runs nothing at all


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one command. A zero is not "unlimited": every limit is always set."""

    memory_bytes: int = 2 * GIB
    processes: int = 256
    disk_bytes: int = 4 * GIB
    output_bytes: int = 8 * MIB
    open_files: int = 4096
    seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Enforced:
    """What the kernel holds for this tier on this machine; ``polled`` means watched and killed, with overshoot."""

    filesystem: str
    network: str
    processes: str
    memory: str
    disk: str
    process_tree: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One command.

    ``workspace`` is the only writable place besides private temporary folders, and the working directory
    (``cwd`` below it, relative). ``read_only`` paths are visible at their own absolute paths.
    ``env`` is added to a fixed clean environment; ``path`` entries are put in front of PATH.
    """

    argv: tuple[str, ...]
    workspace: Path
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[Path, ...] = ()
    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    stdin: bytes = b""
    limits: Limits = Limits()


class Ending(Enum):
    """Why the command is over. Anything but EXITED is the fleet's doing or the kernel's."""

    EXITED = "exited"
    SIGNALED = "signaled"
    TIMED_OUT = "timed_out"
    MEMORY = "memory"
    DISK = "disk"
    PROCESSES = "processes"
    OUTPUT = "output"
    CANCELLED = "cancelled"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """``exit_code`` is the command's own (128 + signal when killed). Output is capped at ``limits.output_bytes``."""

    ending: Ending
    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    seconds: float

    @property
    def ok(self) -> bool:
        return self.ending is Ending.EXITED and self.exit_code == 0


class Sandbox(Protocol):
    """Runs a command so that nothing of it outlives the call and nothing outside ``spec`` is touched."""

    @property
    def tier(self) -> Tier: ...

    @property
    def enforced(self) -> Enforced: ...

    def inside(self, workspace: Path) -> Path:
        """Where ``workspace`` appears to the command (bubblewrap: /workspace; Landlock: its own path)."""
        ...

    def run(
        self,
        spec: SandboxSpec,
        on_output: Callable[[bytes], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SandboxResult:
        """Blocks until the whole process tree is dead. ``should_stop`` is polled about ten times a second."""
        ...
