"""Serving an ASGI application on a private unix socket: for services that other processes of this user talk to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from fleet.core.errors import UsageError

# uvicorn looks ten times a second whether to stop, which an idle machine feels; once a second is soon enough.
_TICKS = 10


class _Patient(uvicorn.Server):
    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + _TICKS) % 864_000
            await asyncio.sleep(_TICKS / 10)


def serve_unix(app: Callable[..., Any], path: Path, *, grace: int, quiet: bool = False) -> None:
    """Serves until SIGTERM or SIGINT; open streams get ``grace`` seconds. ``quiet``: not even errors are logged."""
    listener = bind_private(path)
    config = uvicorn.Config(
        app, log_level=logging.CRITICAL if quiet else logging.WARNING, access_log=False, server_header=False,
        lifespan="auto", timeout_graceful_shutdown=grace,
    )  # fmt: skip
    # uvicorn repeats the signal that stopped it: with handlers that do nothing, a clean stop returns from here.
    before = [(number, signal.signal(number, _stopped)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        _Patient(config).run(sockets=[listener])
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        path.unlink(missing_ok=True)


def loopback(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1. Raises UsageError when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise UsageError(f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}.", "Choose another one.") from None
    listener.listen(128)
    return listener


def serve_beside(app: Callable[..., Any], listener: socket.socket) -> None:
    """Serves from a thread of its own for as long as the process lives."""
    config = uvicorn.Config(
        app, log_level=logging.WARNING, access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    server = _Patient(config)
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()


def bind_private(path: Path) -> socket.socket:
    """A listening unix socket for this user alone; whoever finds its name can connect."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(fresh))
    fresh.chmod(0o600)
    listener.listen(128)
    fresh.replace(path)
    return listener


def _stopped(_: int, __: FrameType | None) -> None:
    return
