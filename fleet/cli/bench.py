"""``fleet bench``: what the fleet costs on this machine, each figure beside its reference."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fleet.adapters.environment import environment
from fleet.cli.app import app, put_json, say


class Measure(StrEnum):
    """What can be measured."""

    DISPATCH = "dispatch"
    NOOP = "noop"
    SANDBOX = "sandbox"
    IDLE = "idle"
    ATTACH = "attach"
    ATTEMPT = "attempt"
    SUPERVISOR = "supervisor"
    TOKENS = "tokens"
    ALL = "all"


@app.command()
def bench(
    measure: Annotated[Measure, typer.Argument(help="What to measure.")] = Measure.ALL,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per figure.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few samples: only to see that it works.")] = False,
) -> None:
    """Measure what the fleet costs on this machine, in private homes; your own fleet is not touched.

    A missed target is printed, and the exit code stays 0: a figure is no test.
    """
    from fleet.bench import run  # noqa: PLC0415 - everything there is, which no other command needs at once
    from fleet.bench.rooms import Bench  # noqa: PLC0415

    where = run.machine()
    if as_json:
        put_json({"type": "machine", "text": where})
    else:
        print(where)
    for report in run.reports(Bench(environment(), say, quick), measure.value):
        if as_json:
            for figure in report.figures:
                put_json({"type": "figure", "measure": report.measure, **figure.row()})
            continue
        print(f"\n{report.measure}: {report.what}", flush=True)
        for figure in report.figures:
            print(figure.line())
        for line in report.details:
            print(f"    {line}", flush=True)
