"""The Typer app, and what every command shares: output, the home, exit codes."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from fleet.adapters.environment import environment
from fleet.cli.safe import safe
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
