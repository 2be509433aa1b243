"""``fleet chaos``: kill -9, freezes and broken lines on real processes, and a judge of what is left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.adapters.clock import SystemClock
from fleet.adapters.environment import environment
from fleet.adapters.pool import cores
from fleet.cli.app import FAULT, INTERRUPTED, app, put_json, say
from fleet.cli.safe import safe
from fleet.core.errors import UsageError

if TYPE_CHECKING:
    from fleet.chaos.verdict import Verdict


@app.command()
def chaos(
    tickets: Annotated[int, typer.Option(min=1, help="Tickets per disturbance.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Order, moments and sample.")] = 1,
    only: Annotated[str, typer.Option(metavar="PATTERN", help="Only disturbances whose name has this in it.")] = "",
    sample: Annotated[int, typer.Option(min=0, help="So many disturbances, by the seed; 0 is the whole deck.")] = 0,
    minutes: Annotated[float, typer.Option(min=0.0, help="Begin no round after this long.")] = 0.0,
    at_once: Annotated[int, typer.Option(min=1, max=32, help="Tickets at work together in a round.")] = 10,
    lanes: Annotated[int, typer.Option(min=0, help="Fleets side by side; 0 is one more than there are cores.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: one per disturbance, then the result.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the homes for a look; they are named.")] = False,
) -> None:
    """Disturb fleets in temporary homes, and compare every ticket's end, tree and pull request with undisturbed runs.

    Exit code 1 when a ticket was lost, doubled or changed, or when a round struck nothing. Your own fleet is not
    touched.
    """
    from fleet.chaos import deck, run, verdict  # noqa: PLC0415 - everything there is, which no other command needs

    chosen = deck.sampled(deck.matching(deck.whole_deck(), only), sample, seed)
    if not chosen:
        names = ", ".join(deck.name_of(one) for one in deck.whole_deck())
        raise UsageError(f"No disturbance is called {only}.", f"There are: {names}.")
    rounds = deck.schedule(chosen, tickets, at_once, seed)
    done = [0]

    def told(played: verdict.Played) -> None:
        done[0] += 1
        say(f"{done[0]} of {len(rounds)}: {run.line(played)}")

    clock = SystemClock()
    play = run.Play(environment(), clock, told, minutes * 60 or float("inf"), keep, say=say)
    begun = clock.monotonic()
    stopped = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it started must not outlive it
    try:
        play.run(rounds, lanes or cores() + 1)
    except KeyboardInterrupt:
        stopped = True  # what was played until then is worth a look
    found = verdict.judge(play.played)
    _show(found, seed, clock.monotonic() - begun, as_json)
    if stopped or found.wrong:
        raise typer.Exit(INTERRUPTED if stopped else FAULT)


def _show(found: Verdict, seed: int, seconds: float, as_json: bool) -> None:
    if as_json:
        for row in found.rows:
            put_json({"type": "disturbance", **row.plain()})
        put_json({"type": "result", "seed": seed, **found.totals, "wrong": list(found.wrong)})
        return
    print(f"seed {seed}, {seconds:.0f} s")
    print(found.text())
    for text in found.wrong:
        print(safe(text))
