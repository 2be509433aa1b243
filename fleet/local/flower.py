"""Flower beside a running fleet, behind a generated password."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from fleet.adapters.acl import Role
from fleet.adapters.flower_auth import flower_command, flower_link
from fleet.adapters.process import start_detached
from fleet.adapters.redis_client import broker_options, broker_url, parse_address
from fleet.core.errors import TemporaryError, UsageError
from fleet.local.wiring import Wiring

START_WITHIN = 40.0


def start(wiring: Wiring) -> str:
    """Starts Flower, or finds it; answers the link with its password. Raises UsageError when it is not installed."""
    home = wiring.home
    password = home.secret("flower", lambda: {"password": wiring.ids.token(18)})["password"]
    url_file = wiring.layout.runtime / "flower.url"
    if pid_of(wiring) is None:
        environment = home.env.get("FLEET_FLOWER")
        if not environment:
            raise UsageError("Flower is not installed here.", "Start it with `bin/fleet up --flower`.")
        address = parse_address(home.broker_url) if home.broker_url else wiring.address
        argv, env = flower_command(
            wiring.layout.secrets / "flower-settings.json",
            broker_url=broker_url(address, Role.MONITOR.value, wiring.password(Role.MONITOR)),
            options=broker_options(address),
            password=password,
            port=0,
            url_file=url_file,
            python=str(Path(environment) / "bin" / "python"),
        )
        wanted = {name: home.env[name] for name in ("PATH", "HOME", "PYTHONPATH", "LANG") if name in home.env}
        pid = start_detached(argv, wanted | env, wiring.layout.logs / "flower.log")
        (wiring.layout.runtime / "flower.pid").write_text(str(pid))
    until = wiring.clock.monotonic() + START_WITHIN
    while not url_file.exists():
        if wiring.clock.monotonic() > until:
            raise TemporaryError("Flower does not come up.", f"See {wiring.layout.logs / 'flower.log'}.")
        wiring.clock.sleep(0.1)
    return flower_link(url_file.read_text().strip(), password)


def stop(wiring: Wiring) -> bool:
    """Ends Flower; False when it did not run."""
    pid = pid_of(wiring)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    (wiring.layout.runtime / "flower.pid").unlink(missing_ok=True)
    (wiring.layout.runtime / "flower.url").unlink(missing_ok=True)
    return True


def pid_of(wiring: Wiring) -> int | None:
    """Flower's process, if it is really that: a number that was used again has another command line."""
    with suppress(OSError, ValueError):
        pid = int((wiring.layout.runtime / "flower.pid").read_text())
        if b"flower_auth" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None
