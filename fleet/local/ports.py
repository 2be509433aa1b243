"""The local forge's port: kept once chosen, so that links stay good."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import suppress

from fleet.core.errors import UsageError
from fleet.local.home import Home, write_private

PROXY = "FLEET_FORGE_PROXY_PORT"  # for `fleet chaos`


def choose(home: Home, wanted: int) -> int:
    """The wanted port, else the remembered one, else any free one. Raises UsageError when ``wanted`` is taken."""
    path = home.layout.home / "port.json"
    remembered = 0
    with suppress(OSError, ValueError):
        remembered = int(json.loads(path.read_text()))
    if wanted:
        if not _free(wanted):
            raise UsageError(
                f"Port {wanted} is taken by another program.",
                "Set FLEET_HOME_FORGE_PORT to a free one, or leave it away to have one chosen.",
            )
        port = wanted
    else:
        port = remembered if remembered and _free(remembered) else _any()
    if port != remembered:
        if remembered and not wanted:
            print(f"port {remembered} is taken; the local forge moves to {port}", file=sys.stderr, flush=True)
        write_private(path, json.dumps(port))
    return port


def shared(home: Home, wanted: int) -> int:
    """The same for services that are started one by one: whoever comes first chooses for all."""
    path = home.layout.home / "port.json"
    with home.locked("port"):
        return int(json.loads(path.read_text())) if path.exists() and not wanted else choose(home, wanted)


def url(home: Home, port: int) -> str:
    """Where everybody but the forge itself finds it: at its port, or at that of a proxy that stands before it."""
    return f"http://127.0.0.1:{home.env.get(PROXY) or port}"


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
