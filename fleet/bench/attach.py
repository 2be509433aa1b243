"""How long a person waits for the first event of ``fleet run``: whole processes, from the shell's point of view."""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import closing
from pathlib import Path

import fleet
from fleet.adapters.process import HostProcess, run
from fleet.bench.figures import Figure, Report, Target, Unit, ratios
from fleet.bench.rooms import Bench, folder, home, repository
from fleet.core.errors import InternalError
from fleet.local.home import Home

ATTACH, COLD = Target(1.5), Target(8.0)
_GIVE_UP_S = 120.0
_PYTHON = (sys.executable, "-I", "-c", "pass")


def measure(bench: Bench) -> Report:
    """Cold: an empty home, nothing runs, the environments are made. Attaching: the fleet runs."""
    colds, attaches = bench.few(3, 1), bench.few(7, 2)
    cold: list[float] = []
    attach: list[float] = []
    python: list[float] = []
    with folder() as place:
        repo = repository(place / "repo", {"a.py": "VALUE = 1\n"})
        for number in range(colds):
            with home(bench) as made:
                cold.append(_first_event(bench, made, repo))
                for _ in range(attaches if number == colds - 1 else 0):
                    python.append(_python(bench, made))
                    attach.append(_first_event(bench, made, repo))
    return Report(
        "attach",
        "start of `fleet run --json` → its first event on standard output",
        (
            Figure("attaching to a running fleet", Unit.SECONDS, tuple(attach), ATTACH),
            Figure("an empty Python program", Unit.SECONDS, tuple(python)),
            Figure("ratio", Unit.RATIO, ratios(attach, python)),
            Figure("cold, an empty home", Unit.SECONDS, tuple(cold), COLD),
        ),
    )


def command() -> tuple[str, ...]:
    """``bin/fleet`` of this checkout, or the installed package through this interpreter."""
    script = Path(fleet.__file__).resolve().parents[1] / "bin" / "fleet"
    return (str(script),) if script.exists() else (sys.executable, "-P", "-m", "fleet.cli")


def _first_event(bench: Bench, made: Home, repo: Path) -> float:
    """Seconds; the ticket, which changes nothing, is waited for afterwards."""
    pipe = made.layout.home.parent / "events"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    words = (*command(), "run", "--repo", str(repo), "--title", "Change nothing", "--agent", "command:true", "--json")
    try:
        begun = bench.clock.monotonic()
        process = HostProcess(words, cwd=repo, env=made.env, log=pipe)
        select.select([reader], [], [], _GIVE_UP_S)
        seconds = bench.clock.monotonic() - begun
        with closing(os.fdopen(os.dup(reader), "rb")) as out:
            os.set_blocking(reader, True)
            lines = out.read().splitlines()
        process.wait(_GIVE_UP_S)
    finally:
        os.close(reader)
        pipe.unlink()
    if first_kind(lines) != "event":
        raise InternalError(f"`fleet run` said {lines[:1]!r} first, which is no event.")
    return seconds


def first_kind(lines: list[bytes]) -> str:
    """The type of the first line that ``fleet run --json`` wrote; empty when it is no such line."""
    try:
        row = json.loads(lines[0])
    except (IndexError, ValueError):
        return ""
    return str(row.get("type", "")) if isinstance(row, dict) else ""


def _python(bench: Bench, made: Home) -> float:
    begun = bench.clock.monotonic()
    run(_PYTHON, cwd="/", env=made.env)
    return bench.clock.monotonic() - begun
