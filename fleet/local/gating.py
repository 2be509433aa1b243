"""The gate runner of a home, for the gates service and for ``fleet gates``."""

from __future__ import annotations

from pathlib import Path

from ci_gates.checkout import check
from ci_gates.runner import GateRunner
from fleet.local.home import Home
from fleet.local.wiring import Wiring


def gate_runner(wiring: Wiring) -> GateRunner:
    return GateRunner(
        wiring.slots, wiring.open_sandbox, wiring.environments, wiring.artifacts, wiring.clock, wiring.ids
    )


def check_checkout(home: Home, path: Path, base: str, worktree: bool, as_json: bool) -> int:
    """``fleet gates``: exit code 0 passed, 2 usage, 3 red, 4 parked."""
    home.make()
    runner = gate_runner(Wiring(home, home.settings()))
    return check(path, runner, lambda line: print(line, flush=True), base=base, as_json=as_json, worktree=worktree)
