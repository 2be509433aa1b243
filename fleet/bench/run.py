"""Which measures there are, in the order in which ``fleet bench all`` takes them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping

from fleet.bench import attach, dispatch, idle, noop, real, sandbox, supervisor, tokens
from fleet.bench.figures import Report
from fleet.bench.rooms import Bench

MEASURES: Mapping[str, tuple[Callable[[Bench], Report], ...]] = {
    "dispatch": (dispatch.measure,),
    "noop": (noop.measure, real.measure),
    "sandbox": (sandbox.measure,),
    "idle": (idle.measure,),
    "attach": (attach.measure,),
    "attempt": (idle.measure_attempt,),
    "supervisor": (supervisor.measure,),
    "tokens": (tokens.measure,),
}


def reports(bench: Bench, name: str) -> Iterator[Report]:
    """The reports of one measure, or of all. Raises KeyError for a name that is none."""
    for one in MEASURES if name == "all" else (name,):
        for measure in MEASURES[one]:
            bench.say(f"measuring {one}")
            yield measure(bench)


def machine() -> str:
    """Where the figures come from. The load of others is in them, which is why each has its reference beside it."""
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    return f"Python {platform.python_version()}, Linux {platform.release()}, {cores} cores, load {load:.1f}"
