"""``python -m fleet.cli`` and the console script ``fleet``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import NoReturn

from fleet.adapters.intruder import check_packages
from fleet.cli.safe import safe
from fleet.core.errors import FleetError


def main() -> None:
    """Exit codes: 0 done, 1 our fault, 2 usage, 3 not passed or escalated, 4 parked, 130 interrupted."""
    try:
        check_packages()
        from fleet.cli import commands  # noqa: PLC0415 - an intruder must be named before its code is imported

        commands.app(prog_name="fleet")
    except FleetError as error:
        _end(str(error), error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        _end(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except SystemExit as end:
        # A wrong word: the library of the commands has told people, and knows nothing of scripts.
        words: Callable[[], str] | None = getattr(end.__context__, "format_message", None)
        if words is not None and isinstance(end.code, int):
            _tell_script(words(), end.code)
        raise


def _end(message: str, code: int) -> NoReturn:
    print(f"fleet: {safe(message)}", file=sys.stderr)
    _tell_script(message, code)
    sys.exit(code)


def _tell_script(message: str, code: int) -> None:
    """With --json standard output ends with a line that says why there is no result (docs/scripts.md)."""
    asked = sys.argv[1:]
    if "--json" in (asked[: asked.index("--")] if "--" in asked else asked):
        print(json.dumps({"v": 1, "type": "error", "exit_code": code, "message": message}, ensure_ascii=True))


if __name__ == "__main__":
    main()
