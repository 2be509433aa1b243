"""``python -m fleet.forge --root DIR [--port N] [--url-file FILE]``: serves the forge on 127.0.0.1."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fleet.core.errors import FleetError
from fleet.forge.server import serve

__all__ = ["main", "serve"]


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fleet.forge", description="The local forge.")
    parser.add_argument("--root", type=Path, required=True, help="folder of the forge")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (0: any free one)")
    parser.add_argument("--url-file", type=Path, help="file that gets the base URL")
    parser.add_argument("--verb-log", type=Path, help="file that gets one JSON line per thing asked of the forge")
    asked = parser.parse_args(argv)
    try:
        serve(asked.root, asked.port, asked.url_file, asked.verb_log)
    except FleetError as error:
        print(f"fleet.forge: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
