"""The process environment, read once at the entry points: nothing else in the fleet looks at it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def environment() -> Mapping[str, str]:
    """A copy, so that what a process was started with cannot change under it."""
    return dict(os.environ)


def default_home(env: Mapping[str, str], uid: int) -> Path:
    """``FLEET_HOME``, else /var/lib/fleet/home as root, else ``$XDG_DATA_HOME/fleet`` or ~/.local/share/fleet."""
    if env.get("FLEET_HOME"):
        return Path(env["FLEET_HOME"]).expanduser().resolve()
    if uid == 0:
        return Path("/var/lib/fleet/home")
    data = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME") or f"/var/tmp/fleet-{uid}") / ".local" / "share")
    return Path(data).resolve() / "fleet"
