"""``python -m ci_gates [--base REF] [--worktree] [--json] [PATH]``: the gates on any checkout, as ``fleet gates``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ci_gates.checkout import check
from ci_gates.runner import GateRunner
from fleet.adapters.environment import environment
from fleet.core.errors import FleetError
from fleet.local.home import Home
from fleet.local.wiring import Wiring


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 passed, 2 usage, 3 red, 4 parked (no sandbox, no gates, a person must allow it)."""
    parser = argparse.ArgumentParser(prog="python -m ci_gates", description="Runs the fleet's gates on a checkout.")
    parser.add_argument("path", nargs="?", default=".", type=Path, help="a git checkout (default: here)")
    parser.add_argument("--base", default="", help="compare with this branch, tag or commit")
    parser.add_argument("--worktree", action="store_true", help="include what is not committed yet")
    parser.add_argument("--allow-no-tests", action="store_true", help="pass even when no test ran")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(argv)
    try:
        runner = _runner()
    except FleetError as error:
        print(f"fleet gates: {error}", file=sys.stderr)
        return error.exit_code
    return check(
        given.path,
        runner,
        lambda line: print(line, flush=True),
        base=given.base,
        as_json=given.json,
        worktree=given.worktree,
        allow_no_tests=given.allow_no_tests,
    )


def _runner() -> GateRunner:
    home = Home(environment())
    home.make()
    wiring = Wiring(home, home.settings())
    return GateRunner(
        wiring.slots, wiring.open_sandbox, wiring.environments, wiring.artifacts, wiring.clock, wiring.ids
    )


if __name__ == "__main__":
    sys.exit(main())
