"""``fleet pause`` and ``fleet resume``: one ticket, or with --all the whole fleet."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet.cli.app import app, put_json, running, say
from fleet.cli.tickets import Json, await_rest, said
from fleet.cli.wording import became
from fleet.core.errors import UsageError
from fleet.core.events import PauseRequested, ResumeRequested
from fleet.core.states import Reason, State
from fleet.core.view import Hold, TicketView
from fleet.local import hold
from fleet.local.client import Client
from fleet.local.word import promise

BY = "cli"
# Marks the tickets that were stopped together, so that those paused one by one stay paused.
BY_ALL = "cli --all"
_AT_WORK = frozenset({State.STARTING, State.RUNNING})
# The desk asks once a second whether the fleet is paused; what it granted just before shows within two.
_SURELY_HELD = 3.0
_PATIENCE = 20.0

Maybe = Annotated[str | None, typer.Argument(help="Ticket id, the beginning of one, or the issue's number.")]
Everything = Annotated[bool, typer.Option("--all", help="The whole fleet of this home.")]


@app.command()
def pause(name: Maybe = None, everything: Everything = False, as_json: Json = False) -> None:
    """Stop working on a ticket until `fleet resume`; the attempt under way is not counted.

    With --all nothing new starts, and attempts at work are stopped; gates and publications under way finish.
    """
    fleet = running()
    if _all(name, everything):
        _pause_all(fleet, as_json)
        return
    view = fleet.find(name or "")
    if not view.state.pausable:
        raise UsageError(f"{view.id} is {view.state.value.replace('_', ' ')}.", "There is nothing to pause.")
    at_forge = promise(fleet, view, PauseRequested(BY))
    now = await_rest(fleet, view)
    said(as_json, view, became(now, State.PARKED, Reason.PAUSED, "paused"), at_forge)


@app.command()
def resume(name: Maybe = None, everything: Everything = False, as_json: Json = False) -> None:
    """Go on with a paused ticket; with --all, with the whole fleet and what was stopped with it."""
    fleet = running()
    if _all(name, everything):
        _resume_all(fleet, as_json)
        return
    view = fleet.find(name or "")
    if view.reason is not Reason.PAUSED:
        way = (
            f"`fleet show {view.id}` says what it waits for." if view.state is State.PARKED else "It needs no resuming."
        )
        raise UsageError(f"{view.id} is not paused.", way)
    at_forge = promise(fleet, view, ResumeRequested(BY))
    said(as_json, view, "queued again", at_forge)


def _all(name: str | None, everything: bool) -> bool:
    if everything == (name is not None):
        raise UsageError("Say which ticket, or --all for the whole fleet.", "Give exactly one of them.")
    return everything


def _pause_all(fleet: Client, as_json: bool) -> None:
    """The hold is on disk first: what happens to be granted meanwhile is found at work, and stopped, too."""
    ledger, clock = fleet.ledger(), fleet.wiring.clock
    if ledger.held() is None:
        hold.put(fleet.home, ledger, Hold(BY, clock.now()))
    told: set[tuple[str, int]] = set()
    begun = clock.monotonic()
    while True:
        at_work = [view for view in ledger.views() if view.state in _AT_WORK]
        for view in at_work:
            if (view.id, view.attempt) not in told:
                told.add((view.id, view.attempt))
                fleet.tell(view, PauseRequested(BY_ALL))
        waited = clock.monotonic() - begun
        if waited > _PATIENCE or (waited > _SURELY_HELD and not at_work):
            break
        clock.sleep(0.1)
    stopped = {name for name, _ in told}
    if as_json:
        put_json({"type": "paused", "stopped": sorted(stopped), "still_at_work": sorted(view.id for view in at_work)})
        return
    print(f"the whole fleet is paused; tickets that were stopped: {len(stopped)}. Go on with `fleet resume --all`")
    if at_work:
        say(f"still at work: {', '.join(view.id for view in at_work)}")


def _resume_all(fleet: Client, as_json: bool) -> None:
    ledger = fleet.ledger()
    held = ledger.held()
    stopped = [view for view in ledger.views() if _stopped_with_all(view)]
    if held is None and not stopped:
        raise UsageError("The fleet is not paused.", "Tickets paused one by one want `fleet resume TICKET`.")
    for view in stopped:
        fleet.tell(view, ResumeRequested(BY_ALL))
    hold.put(fleet.home, ledger, None)
    if as_json:
        put_json({"type": "resumed", "tickets": sorted(view.id for view in stopped)})
    else:
        print(f"the fleet goes on; tickets that were stopped: {len(stopped)}")


def _stopped_with_all(view: TicketView) -> bool:
    return view.state is State.PARKED and view.reason is Reason.PAUSED and view.detail == f"by {BY_ALL}"
