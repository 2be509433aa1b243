"""``fleet demo``: six tickets at once, and what each of them proves."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.adapters.environment import environment
from fleet.cli.app import FAULT, INTERRUPTED, OK, app, put_json, say
from fleet.cli.live import keep_serving
from fleet.cli.safe import safe
from fleet.cli.wording import result, sentence
from fleet.core.errors import UsageError
from fleet.core.events import Envelope, GateFinished, Nudged, Published, StateChanged

if TYPE_CHECKING:
    from fleet.cli.board import Board
    from fleet.demo.cast import Part
    from fleet.demo.stage import Actor, Stage
    from fleet.local.client import Client

_TOLD = (StateChanged, Nudged, Published)


@app.command()
def demo(
    live: Annotated[
        bool, typer.Option("--live", help="One ticket, worked on by a real model (needs its key).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line; the last is the result.")] = False,
    stay: Annotated[bool, typer.Option(help="In a terminal, keep the pages up until q is pressed.")] = True,
) -> None:
    """Send six tickets through a fleet of its own, without an account. Exit code 0: all ended as promised."""
    from fleet.demo import stage as staging  # noqa: PLC0415 - other commands need none of this

    home = staging.demo_home(environment(), live)
    parts = _parts(live)
    tell = (lambda _: None) if as_json else say
    fleet = staging.fresh(home, tell)
    play = staging.Stage(fleet, parts, staging.LIVE_LONGEST_S if live else staging.LONGEST_S)
    try:
        play.open()
        _follow(play, as_json)
    except KeyboardInterrupt:
        say("stopping the demo")
        fleet.down()
        raise typer.Exit(INTERRUPTED) from None
    kept = all(actor.kept for actor in play.roles)
    if as_json:
        rows = [
            {**result(actor.view), "name": actor.part.name, "kept": actor.kept} for actor in play.roles if actor.view
        ]
        put_json({"type": "result", "kept": kept, "tickets": rows})
    else:
        _summary(fleet, play)
    if stay and sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
        keep_serving()
        fleet.down()
    raise typer.Exit(OK if kept else FAULT)


def _parts(live: bool) -> tuple[Part, ...]:
    from fleet.demo.cast import CAST  # noqa: PLC0415

    if not live:
        return CAST
    env = environment()
    known = {"ANTHROPIC_API_KEY": "anthropic", "OPENAI_API_KEY": "openai"}
    agent = next((agent for name, agent in known.items() if env.get(name)), None)
    if agent is None:
        raise UsageError("There is no key for a real model.", f"Set {' or '.join(known)}, or leave --live away.")
    return (replace(CAST[0], agent=agent),)


def _follow(play: Stage, as_json: bool) -> None:
    names = {actor.ticket: actor.part.name for actor in play.roles}
    first: float | None = None
    with _board(play, as_json) as board:
        for actor, event in play.play():
            if event is None:
                continue
            first = event.at if first is None else first
            name, at, line = names[actor.ticket], event.at - first, _line(event)
            if board is not None:
                board.event(name, event, at, line)
            elif as_json:
                put_json({"type": "event", "at": event.at, "kind": event.kind, "ticket": event.ticket})
            elif line:
                print(f"{at:6.1f}s  {name:<10} {safe(line)}", flush=True)


def _board(play: Stage, as_json: bool) -> AbstractContextManager[Board | None]:
    """A live table where somebody looks; lines where they are kept."""
    if as_json or not sys.stdout.isatty():
        return nullcontext()
    from fleet.cli.board import Board  # noqa: PLC0415 - its library takes a tenth of a second

    return Board([actor.part.name for actor in play.roles])


def _line(event: Envelope) -> str:
    """The events that tell the story, in words; empty for the others."""
    told = isinstance(event.data, _TOLD) or event.kind in ("TicketAccepted", "AttemptStarted", "ChangeReady", "Note")
    red = isinstance(event.data, GateFinished) and event.data.outcome == "failed"
    return sentence(event).splitlines()[0] if (told or red) and sentence(event) else ""


def _summary(fleet: Client, play: Stage) -> None:
    print()
    for actor in play.roles:
        view = actor.view
        mark = "✓" if actor.kept else "✗"
        print(f"{mark} {actor.part.name}: {actor.part.shows if actor.kept else _otherwise(actor)}")
        if view is not None:
            attempts = f"{view.attempt} attempt{'s' if view.attempt > 1 else ''}"
            spent = f", ${view.cost.usd:.4f} of play money" if view.cost.model_calls else ", no model"
            print(f"    “{view.ticket.title}” → {view.state.value.replace('_', ' ')}, {attempts}{spent}")
            path = f"pull/{view.pull_request.number}" if view.pull_request else f"issues/{view.ticket.number}"
            print(f"    {fleet.page(f'{fleet.wiring.forge_url}/{view.ticket.repo}/{path}')}")
    kept = sum(actor.kept for actor in play.roles)
    print(f"\n{kept} of {len(play.roles)} tickets ended as promised. Now on a repository of yours:\n")
    print(
        '  bin/fleet run --repo PATH --title "Remove unused imports" --agent "command:ruff check --fix --select F401 ."'
    )
    print("  ANTHROPIC_API_KEY=… bin/fleet run PATH --issue FILE --agent anthropic")
    print(
        "  GITHUB_TOKEN=… ANTHROPIC_API_KEY=… bin/fleet run https://github.com/OWNER/NAME/issues/N --agent anthropic\n"
    )
    print(f"The demo's own home: FLEET_HOME={fleet.home.layout.home} bin/fleet ls | show TICKET | down")


def _otherwise(actor: Actor) -> str:
    if actor.view is None:
        return "it was never seen"
    return f"it did not end as promised: {actor.view.state.value} ({actor.view.reason.value}) {actor.view.detail}"
