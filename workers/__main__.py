"""``python -m workers host``: the attempt host of this home, in the foreground, until SIGTERM.

``python -m workers list``: the attempts that live on this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fleet.adapters.environment import environment
from fleet.adapters.launcher import LocalLauncher
from fleet.core.errors import FleetError, UsageError
from fleet.local.home import Home
from fleet.local.services import attempts
from fleet.local.wiring import Wiring


def main(argv: Sequence[str]) -> int:
    """The exit code: 0, or the error's own."""
    try:
        home = Home(environment())
        home.make()
        state = home.host_state()
        wiring = Wiring(home, home.settings(), state.forge_url if state else "")
        match list(argv):
            case ["host"]:
                attempts(wiring)
            case ["list"]:
                for live in LocalLauncher(wiring.layout, wiring.clock).live():
                    print(f"{live.ticket} attempt {live.attempt} (pid {live.pid})")
            case _:
                raise UsageError("python -m workers takes one word.", "Say host or list.")
    except FleetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
