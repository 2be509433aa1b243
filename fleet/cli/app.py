"""The Typer app, and what every command shares: output, the home, exit codes."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import typer

from fleet.adapters.environment import environment
from fleet.core.errors import UsageError
from fleet.local.client import Client
from fleet.local.home import Home

OK, FAULT, USAGE, NOT_PASSED, PARKED, INTERRUPTED = 0, 1, 2, 3, 4, 130

app = typer.Typer(
    name="fleet",
    help="Turns issues into gated pull requests. Nothing is pushed before lint, type, test and policy gates passed.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Everything but newline and tab that a terminal could act on, what reorders text, and what nobody can see.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


def safe(text: str) -> str:
    """``text`` with every control and bidirectional character made visible: it came from a repository (I21)."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def say(text: str) -> None:
    """Progress for people, on standard error."""
    print(f"fleet: {safe(text)}", file=sys.stderr, flush=True)


def put_json(row: dict[str, Any]) -> None:
    """One line for scripts: every row has ``v`` and ``type``."""
    print(json.dumps({"v": 1, **row}, ensure_ascii=True), flush=True)


def open_home() -> Home:
    return Home(environment())


def client(quiet: bool = False) -> Client:
    return Client(open_home(), (lambda _: None) if quiet else say)


def running() -> Client:
    """A client of a fleet that runs. Raises UsageError when none does."""
    found = client(quiet=True)
    if found.attach_if_running() is None:
        raise UsageError("No fleet is running in this home.", "Start it with `fleet up`.")
    return found
