"""``fleet simulate``: the whole fleet on a virtual clock, faults by seed, every promise checked at each step."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.adapters.clock import SystemClock
from fleet.adapters.pool import cores, spread
from fleet.cli.app import FAULT, app, put_json, say
from fleet.cli.safe import safe

if TYPE_CHECKING:
    from fleet.simulate.shrink import Story


class Level(StrEnum):
    """How much goes wrong."""

    HEAVY = "heavy"
    STALE = "stale"
    LIGHT = "light"
    NONE = "none"


@app.command()
def simulate(
    tickets: Annotated[int, typer.Option(min=1, help="How many ticket lives.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="What happens; the same seed is the same run.")] = 1,
    faults: Annotated[Level, typer.Option(help="How much goes wrong.")] = Level.HEAVY,
    at_once: Annotated[int, typer.Option(min=1, help="Tickets per world; each world has the next seed.")] = 400,
    minutes: Annotated[float, typer.Option(min=0.0, help="End after this long, whatever was reached.")] = 0.0,
    jobs: Annotated[int, typer.Option(min=0, help="Worlds at a time; 0 is one per core.")] = 0,
    stalls: Annotated[
        int | None,
        typer.Option(min=10, help="Instead: so many live attempts, all of which stall; how late each is noticed."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Run the fleet in simulation: crashes, losses, duplicates, partitions, jumping clocks; nothing outside is touched.

    The first broken promise ends the run with its shortest story and exit code 1.
    """
    from fleet.simulate.report import Totals, simulate  # noqa: PLC0415 - the whole fleet, which no other command needs

    if stalls is not None:
        _stalls(stalls, seed, as_json)
        return

    clock = SystemClock()
    shown = [clock.monotonic()]

    def progress(totals: Totals) -> None:
        if clock.monotonic() - shown[0] >= 30.0:
            shown[0] = clock.monotonic()
            say(f"{totals.tickets} of {tickets} tickets, {totals.killed} kills, {totals.seconds:.0f} s")

    most = minutes * 60 or float("inf")
    with spread(jobs or cores()) as mapping:
        totals = simulate(
            tickets, seed, faults.value, clock, at_once=at_once, seconds=most, progress=progress, spread=mapping
        )
    story = totals.story
    if as_json:
        put_json({"type": "result", **totals.row(), "story": list(story.lines) if story else []})
    else:
        print(totals.text())
        if story is not None:
            _tell(story)
    if story is not None:
        raise typer.Exit(FAULT)
    if faults is not Level.NONE and not totals.killed:
        say("Nothing was killed, so nothing was shown; give it more tickets.")
        raise typer.Exit(FAULT)


def _tell(story: Story) -> None:
    print(f"\n{story.promise} is broken: {safe(story.text)} ({story.ticket or 'no ticket'})")
    print(f"Shortest story found: world {story.plan.seed}, {story.tickets} tickets, {story.faults} faults.")
    print("\n".join(safe(line) for line in story.lines))


def _stalls(count: int, seed: int, as_json: bool) -> None:
    """Prints how late the stalls were noticed; exit code 1 when one was not, or too many too late."""
    from fleet.simulate.checks import Broken  # noqa: PLC0415 - as above
    from fleet.simulate.stalls import play  # noqa: PLC0415 - as above

    try:
        noticed = play(count, seed)
    except Broken as broken:
        row = {"type": "result", "seed": seed, "stalls": count, "broken": broken.promise, "text": broken.text}
        put_json(row) if as_json else print(
            f"{broken.promise} is broken: {safe(broken.text)} ({broken.ticket or 'all'})"
        )
        raise typer.Exit(FAULT) from None
    if as_json:
        put_json({"type": "result", "seed": seed, **noticed.row()})
    else:
        print(noticed.text())
