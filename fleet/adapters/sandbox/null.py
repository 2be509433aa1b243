"""A sandbox that runs nothing, for ``fleet bench`` alone: it measures the fleet without the cost of commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet.core.sandbox import Ending, Enforced, SandboxResult, SandboxSpec, Tier


class NullSandbox:
    """Implements ``fleet.core.sandbox.Sandbox``: every command "ends" at once with status 0 and was never started."""

    @property
    def tier(self) -> Tier:
        return Tier.NULL

    @property
    def enforced(self) -> Enforced:
        never = "nothing runs"
        return Enforced(never, never, never, never, never, never)

    def inside(self, workspace: Path) -> Path:
        return workspace

    def run(
        self,
        spec: SandboxSpec,
        on_output: Callable[[bytes], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SandboxResult:
        return SandboxResult(Ending.EXITED, 0, b"", b"", False, 0.0)
