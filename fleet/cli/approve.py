"""``fleet approve``: a person allows what policy asks about in exactly the commit that was looked at, or more money."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fleet.cli.app import app, put_json, running
from fleet.cli.safe import safe
from fleet.cli.tickets import Json, Name, change_of, unless_at_forge
from fleet.core.allowance import amount
from fleet.core.errors import UsageError
from fleet.core.events import ApprovalGiven, BudgetRaised
from fleet.core.gates import Approval, GateKind, GateRecord
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.local.client import Client
from fleet.local.word import promise


@app.command()
def approve(
    name: Name,
    usd: Annotated[str | None, typer.Option("--usd", help="Allow so many dollars more, instead.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Allow what a parked ticket asks for: what policy found in its commit, or with --usd more money.

    The gates then run on exactly this commit, and the pull request names who allowed what. When the base branch moved
    in between, the commit is another one and you are asked again. Money raises this ticket's limit; the limits of its
    tenant, of the day and of the fleet hold all the same.
    """
    fleet = running()
    view = fleet.find(name)
    if usd is not None:
        _allow_money(fleet, view, amount(usd), as_json)
        return
    asked = _asked(fleet, view)
    if not as_json:
        print(f"{view.id}, commit {view.head[:12]}: policy asks about")
        for finding in asked.new:
            place = f"{finding.path}:{finding.line}" if finding.line else finding.path
            print(f"  {safe(place)} {safe(finding.code)} {safe(finding.message)}")
        change_of(fleet, view)
    if not (yes or (sys.stdin.isatty() and typer.confirm("Allow it in this commit?"))):
        raise UsageError("Nothing was allowed.", "Say --yes to allow it.")
    by = fleet.home.person
    record = Approval(view.id, view.attempt, view.head, by, fleet.wiring.clock.now())
    # The record first: the gates and the publisher believe it alone, and the word only wakes the ticket.
    fleet.ledger().put_approval(record)
    fleet.tell(view, ApprovalGiven(by, view.head))
    if as_json:
        put_json({"type": "told", "ticket": view.id, "what": "approved", "head": view.head, "by": by})
    else:
        print(f"{view.id} approved by {safe(by)}; its gates run now. Follow it with: fleet show -f {view.id}")


def _allow_money(fleet: Client, view: TicketView, usd: float, as_json: bool) -> None:
    if view.state.terminal:
        raise UsageError(f"{view.id} has already ended ({view.state.value}).", "There is nothing to spend it on.")
    by = fleet.home.person
    at_forge = promise(fleet, view, BudgetRaised(by, usd))
    goes_on = view.state is State.PARKED and view.reason is Reason.BUDGET
    if as_json:
        told = {"usd": usd, "by": by, "goes_on": goes_on, "at_forge": at_forge}
        put_json({"type": "told", "ticket": view.id, "what": "approved"} | told)
    else:
        follow = f"; it goes on. Follow it with: fleet show -f {view.id}" if goes_on else ""
        print(f"{view.id} may spend ${usd:g} more, by {safe(by)}{follow}")
    unless_at_forge(at_forge)


def _asked(fleet: Client, view: TicketView) -> GateRecord:
    """The record in which policy asks. Raises UsageError when this ticket waits for nothing of the kind."""
    if view.state is not State.PARKED or view.reason is not Reason.APPROVAL:
        said = f"{view.state.value.replace('_', ' ')} ({view.reason.value.replace('_', ' ')})"
        raise UsageError(f"{view.id} is {said}.", "Only what is parked for approval can be approved.")
    records = fleet.ledger().gate_records(view.id, view.attempt, view.head)
    found = next((record for record in records if record.kind is GateKind.POLICY), None)
    if found is None:
        raise UsageError(f"Policy left no record of {view.id}.", f"Try again with `fleet retry {view.id}`.")
    return found
