"""``python -m fleet.cli`` and the console script ``fleet``."""

from __future__ import annotations

import sys

from fleet.adapters.intruder import check_packages
from fleet.core.errors import FleetError


def main() -> None:
    """Exit codes: 0 done, 1 our fault, 2 usage, 3 not passed or escalated, 4 parked, 130 interrupted."""
    try:
        check_packages()
        from fleet.cli import commands  # noqa: PLC0415 - an intruder must be named before its code is imported

        commands.app(prog_name="fleet")
    except FleetError as error:
        print(f"fleet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        print(f"fleet: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
