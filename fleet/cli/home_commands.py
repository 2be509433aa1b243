"""Commands about the fleet itself: up, down, status, doctor, clean, gates, service."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fleet.cli import money
from fleet.cli.app import OK, app, client, open_home, put_json, say
from fleet.cli.safe import safe
from fleet.cli.watching import checked, said, stop_watching
from fleet.cli.wording import limits_words
from fleet.core.errors import UsageError
from fleet.core.recovery import Taken
from fleet.core.settings import Settings
from fleet.core.states import State
from fleet.intake.watched import WEBHOOK_PATH
from fleet.local import keys, watches
from fleet.local.client import Client
from fleet.local.home import HostState, version

Json = Annotated[bool, typer.Option("--json", help="JSON lines for scripts.")]


@app.command()
def up(
    repo: Annotated[
        list[str] | None,
        typer.Option(help="Watch this repository (OWNER/NAME, a URL, or local/NAME) for the label; may be repeated."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="The label that starts work. Default: fleet.")] = None,
    agent: Annotated[str | None, typer.Option(help="Who works on labelled issues. Default: agents.default.")] = None,
    forget: Annotated[list[str] | None, typer.Option(help="Stop watching this repository.")] = None,
    flower: Annotated[bool, typer.Option("--flower", help="Also start Flower behind a generated password.")] = False,
    as_json: Json = False,
) -> None:
    """Start the fleet of this home in the background (or find it running), and have it watch repositories."""
    fleet = client(quiet=as_json)
    if (label or agent) and not repo:
        raise UsageError("--label and --agent are about a repository.", "Name it with --repo OWNER/NAME.")
    for name in forget or ():
        stop_watching(fleet, name)
    chosen = [checked(fleet, name, label, agent) for name in repo or ()]
    state = fleet.attach()
    for one in chosen:
        watches.add(fleet.home, one)
    watched = watches.known(fleet.home, fleet.settings)
    link = fleet.flower() if flower else ""
    if as_json:
        row = {"type": "fleet", "pid": state.pid, "forge": state.forge_url, "version": state.version}
        put_json(row | {"watched": [asdict(one) for one in watched]} | ({"flower": link} if flower else {}))
        return
    print(f"fleet {state.version} runs in {fleet.home.layout.home} (pid {state.pid})")
    print(f"forge   {fleet.page(state.forge_url)}")
    if flower:
        print(f"flower  {link}")
    for line in said(fleet, watched):
        print(line)
    print(f"limits  {limits_words(fleet.settings)}")


@app.command()
def webhook(as_json: Json = False) -> None:
    """Say where GitHub's webhooks go and with which secret. They only save time: the fleet also looks by itself."""
    fleet = client(quiet=True)
    fleet.home.make()
    port, key = fleet.settings.intake.webhook_port, watches.secret(fleet.home, fleet.wiring.ids)
    if as_json:
        put_json({"type": "webhook", "port": port, "path": WEBHOOK_PATH, "secret": key})
        return
    if port:
        print(f"address   http://127.0.0.1:{port}{WEBHOOK_PATH}, through a tunnel or proxy of yours")
    else:
        print("address   none: set intake.webhook_port (or FLEET_INTAKE_WEBHOOK_PORT), then restart the fleet")
    print("content   application/json")
    print("events    Issues, Issue comments, Pull requests")
    print(f"secret    {key}")


@app.command()
def down(as_json: Json = False) -> None:
    """Stop the fleet of this home. Attempts are handed back and resume with the next `fleet up` or `fleet run`."""
    fleet = Client(open_home(), (lambda _: None) if as_json else say, Settings())
    found = fleet.down()
    handed, goes_on = (found.handed_back, found.goes_on) if found is not None else ((), ())
    if as_json:
        attempts = [{"ticket": ticket, "attempt": attempt} for ticket, attempt in handed]
        tickets = [{"ticket": ticket, "state": state} for ticket, state in goes_on]
        put_json({"type": "fleet", "stopped": found is not None, "handed_back": attempts, "goes_on": tickets})
        return
    print("stopped" if found is not None else "no fleet was running in this home")
    for ticket, attempt in handed:
        print(f"handed back  attempt {attempt} of {ticket}; it counts as none")
    for ticket, state in goes_on:
        print(f"goes on      {ticket} ({state.replace('_', ' ')}), with the next `fleet up` or `fleet run`")


@app.command()
def status(as_json: Json = False) -> None:
    """Say what runs, where, and how many tickets are in which state."""
    fleet = client(quiet=True)
    state = fleet.attach_if_running()
    if state is None:
        if as_json:
            put_json({"type": "status", "running": False, "home": str(fleet.home.layout.home)})
        else:
            print(f"no fleet is running in {fleet.home.layout.home}; start it with `fleet up`")
        return
    counts = {one.value: 0 for one in State}
    for view in fleet.ledger().views():
        counts[view.state.value] += 1
    _say_status(fleet, state, {name: count for name, count in counts.items() if count}, as_json)


def _lost_at(recovered: Mapping[str, Taken]) -> float:
    return max(taken.at for taken in recovered.values())


def _say_recovered(recovered: Mapping[str, Taken]) -> None:
    if recovered:
        when = datetime.datetime.fromtimestamp(_lost_at(recovered), datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        count = f"{len(recovered)} ticket" + ("s" if len(recovered) > 1 else "")
        print(f"RECOVERED {count} at {when}: the store was lost, and the forge still knew them")


def _say_status(fleet: Client, state: HostState, counts: dict[str, int], as_json: bool) -> None:
    services, hold = fleet.services(), fleet.ledger().held()
    recovered = fleet.ledger().recovered()
    if as_json:
        put_json(
            {
                "type": "status",
                "running": True,
                "home": str(fleet.home.layout.home),
                "pid": state.pid,
                "version": state.version,
                "forge": state.forge_url,
                "store": state.store,
                "services": services,
                "tickets": counts,
                "money": money.rows(fleet),
                "recovered": None if not recovered else {"tickets": sorted(recovered), "at": _lost_at(recovered)},
                "paused": None if hold is None else {"by": hold.by, "at": hold.at},
            }
        )
        return
    print(f"fleet {state.version}  {fleet.home.layout.home}  (host pid {state.pid}, store {state.store})")
    print(f"forge     {fleet.page(state.forge_url)}")
    print("services  " + ", ".join(f"{name} {'runs' if up else 'DOWN'}" for name, up in services.items()))
    tickets = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    print(f"tickets   {tickets or 'none yet'}")
    for level in money.levels(fleet):
        name = {"day": "today", "fleet": "month"}.get(level.name, f"tenant {level.name}")
        print(f"{name:<9} {money.words(level)}")
    _say_recovered(recovered)
    if hold is not None:
        minutes = max(0.0, fleet.wiring.clock.now() - hold.at) / 60
        print(f"PAUSED    by {safe(hold.by)} for {minutes:.0f} min: NOTHING NEW STARTS until `fleet resume --all`")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check everything the fleet needs on this machine; each missing thing comes with the one command that mends it."""
    from fleet.cli import doctor as checks  # noqa: PLC0415 - the sandbox's code, which other commands do not need

    home = open_home()
    found = checks.examine(home)
    for check in found:
        if as_json:
            put_json({"type": "check", **check.to_dict()})
            continue
        mark = {"ok": "✓", "note": "·", "bad": "✗"}[check.level]
        print(f"{mark} {check.name:<12} {safe(check.says)}")
        if check.mend:
            print(f"  {'':<12} → {check.mend}")
    raise typer.Exit(OK if all(check.level != "bad" for check in found) else 1)


@app.command()
def clean(
    cache: Annotated[
        bool, typer.Option("--cache", help="Also prepared environments that were not used today.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Forget the model keys and GitHub tokens of earlier commands.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove the whole home: tickets, forge, everything.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove what is no longer needed: leftovers of dead attempts, old logs, also of tickets that the ledger forgot.

    With --all the whole home.
    """
    fleet = Client(open_home(), say, Settings() if everything else None)
    home = fleet.home
    if everything:
        if fleet.attach_if_running() is not None:
            raise UsageError("The fleet is running.", "Stop it with `fleet down` first.")
        if not home.layout.home.exists():
            print(f"{home.layout.home} does not exist; nothing to remove")
            return
        sure = yes or (sys.stdin.isatty() and typer.confirm(f"Remove {home.layout.home} with every ticket in it?"))
        if not sure:
            raise UsageError("Nothing was removed.", "Say --yes to remove the whole home.")
        from fleet.adapters.slots import remove_tree  # noqa: PLC0415 - only this path needs it

        for folder in (home.layout.work, home.layout.home, home.layout.runtime):
            remove_tree(folder)
        print(f"removed {home.layout.home}")
        return
    home.make()
    if tokens:
        gone = keys.forget(home)
        print(f"forgot {', '.join(gone)}" if gone else "no key or token was kept")
        return
    left = fleet.wiring.slots.sweep()
    logs = [path for path in home.layout.logs.glob("*.log.1")]
    for path in logs:
        path.unlink()
    freed = fleet.wiring.environments.prune(0) if cache else 0
    print(f"swept {len(left)} slots, {len(logs)} old logs, {freed // 2**20} MiB of environments")
    from fleet.local.cleaning import remove_old_segments  # noqa: PLC0415 - only this command needs it

    count, size = remove_old_segments(fleet)
    if count:
        print(f"removed {count} sealed logs of forgotten tickets, {size / 2**20:.1f} MiB")


@app.command()
def gates(
    path: Annotated[Path, typer.Argument(help="A checkout.")] = Path("."),
    base: Annotated[str, typer.Option(help="What to compare with. Default: where the branch left main.")] = "",
    worktree: Annotated[bool, typer.Option("--worktree", help="Include changes that are not committed.")] = False,
    as_json: Json = False,
) -> None:
    """Run the gates of a checkout against its base, as the fleet would before it opens a pull request."""
    from fleet.local.gating import check_checkout  # noqa: PLC0415 - the gates' code, which other commands do not need

    raise typer.Exit(check_checkout(open_home(), path, base, worktree, as_json))


@app.command(hidden=True)
def service(name: Annotated[str, typer.Argument(help="Which service.")]) -> None:
    """Run one service in the foreground: for Procfile runners and unit files."""
    from fleet.local.main import run_service  # noqa: PLC0415

    run_service(open_home(), name)


@app.command("version")
def show_version() -> None:
    """Print the version."""
    print(f"fleet {version()} (Python {sys.version.split()[0]}, uid {os.geteuid()})")


__all__ = ["say"]
