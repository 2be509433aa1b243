"""``python -m fleet.cli`` and the console script ``fleet``."""

from __future__ import annotations

import sys

import click

from fleet.adapters.intruder import check_packages
from fleet.core.errors import FleetError


def main() -> None:
    """Exit codes: 0 done, 1 our fault, 2 usage, 3 not passed or escalated, 4 parked, 130 interrupted."""
    try:
        check_packages()
        from fleet.cli import commands  # noqa: PLC0415 - an intruder must be named before its code is imported

        sys.exit(commands.app(standalone_mode=False))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("fleet: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except FleetError as error:
        print(f"fleet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"fleet: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
