"""The host process: opens the store, picks the forge's port, forks the services."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict

from fleet.adapters.acl import Role
from fleet.adapters.sandbox import sweep
from fleet.core.errors import FleetError, TemporaryError, UsageError
from fleet.local import ports, telemetry, watches
from fleet.local.attempts import LiveAttempts
from fleet.local.home import Home, HostState, version
from fleet.local.host import LOOK_EVERY, Host, anybody, bound_logs, join, note, settle_memory, take_lock
from fleet.local.services import NAMES, services
from fleet.local.wiring import Wiring

_READY_S = 60.0
_AGAIN_S = 0.5


def run_host(home: Home) -> None:
    """Serves this home until told to stop or until nobody needs it. Returns at once when another host does."""
    lock = take_lock(home.host_lock)
    if lock is None:
        return
    settings = home.settings()
    wiring = Wiring(home, settings)
    address = wiring.open_store()
    wiring.forge_port = ports.choose(home, settings.home.forge_port)
    wiring.forge_url = ports.url(home, wiring.forge_port)
    (home.layout.runtime / "forge.url").unlink(missing_ok=True)
    wiring.tokens()
    settle_memory()
    table = services(wiring)
    host = Host(
        table,
        home.layout.logs,
        wiring.clock,
        _idle(home, wiring),
        settings.home.idle_minutes * 60,
        home.write_services,
        _tend(wiring),
        LiveAttempts(home.layout, wiring.clock),
    )
    started = wiring.clock.now()
    state = HostState(os.getpid(), version(), wiring.forge_url, asdict(settings), str(address), started)
    home.write_host_state(state)
    try:
        why = host.run()
        note(f"the host ends: {why}")
        if why != "asked to stop" and not home.redis_url:
            wiring.embedded.stop()
    finally:
        home.forget_host_state()


def _idle(home: Home, wiring: Wiring) -> Callable[[], bool]:
    """Nobody is attached and no ticket is at work. A store that does not answer is no reason to stop."""
    ledger = wiring.ledger(Role.PEOPLE)

    def idle() -> bool:
        if anybody(home.clients_lock) or watches.known(home, wiring.settings):
            return False
        try:
            return not any(view.state.active for view in ledger.views())
        except TemporaryError:
            return False

    return idle


def _tend(wiring: Wiring) -> Callable[[], None]:
    """What is done every few seconds: the janitor, long logs cut, and the embedded store started again when it died.

    The janitor ends and removes what killed attempts and gates left (I10); the store's append-only file has everything
    that was promised.
    """

    def tend() -> None:
        wiring.slots.sweep()
        sweep(wiring.scratch)
        bound_logs(wiring.layout.logs)
        if wiring.home.redis_url:
            return
        try:
            if not wiring.embedded.running():
                wiring.embedded.ensure()
                note("the store had died and was started again")
        except FleetError as error:
            note(f"the store cannot be started: {error}")

    return tend


def run_service(home: Home, name: str) -> None:
    """One service in the foreground, beside others that somebody else starts (a Procfile, unit files).

    Whoever comes first opens the store and writes down where the forge will be; nobody stops the store.
    """
    home.make()
    if name == "host":
        run_host(home)
        return
    if name not in (*NAMES, telemetry.NAME):
        raise UsageError(f"There is no service {name}.", f"Services are {', '.join((*NAMES, telemetry.NAME))}.")
    if join(home.host_lock) is None:
        raise UsageError("The fleet is already running in this home.", "Stop it with `fleet down` first.")
    settings = home.settings()
    wiring = Wiring(home, settings)
    if name == telemetry.NAME and not telemetry.wanted(wiring):
        raise UsageError("No telemetry is asked for.", "Set telemetry.metrics_port or telemetry.otlp_endpoint.")
    address = wiring.open_store()
    wiring.forge_port = ports.shared(home, settings.home.forge_port)
    wiring.forge_url = ports.url(home, wiring.forge_port)
    wiring.tokens()
    started = wiring.clock.now()
    home.write_host_state(HostState(0, version(), wiring.forge_url, asdict(settings), str(address), started, True))
    home.add_service(name, os.getpid())
    if name == "supervisor":
        # What a host does between its other duties. The supervisor forks nothing, so a thread does no harm there.
        threading.Thread(target=_tend_for_ever, args=(wiring,), daemon=True).start()
    _run_when_ready(wiring, services(wiring)[name])


def _run_when_ready(wiring: Wiring, service: Callable[[], None]) -> None:
    """They start in any order, so one may miss another at first (the attempts' host needs an opened ledger)."""
    until = wiring.clock.monotonic() + _READY_S
    while True:
        try:
            return service()
        except TemporaryError as error:
            if wiring.clock.monotonic() > until:
                raise
            note(f"{error} Trying again.")
            wiring.clock.sleep(_AGAIN_S)


def _tend_for_ever(wiring: Wiring) -> None:
    tend = _tend(wiring)
    while True:
        tend()
        wiring.clock.sleep(LOOK_EVERY)
