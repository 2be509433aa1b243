"""Serves the forge on 127.0.0.1 until SIGTERM or SIGINT; an entry point calls ``serve``."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from fleet.adapters.clock import SystemClock
from fleet.adapters.ids import SystemIds
from fleet.core.errors import UsageError
from fleet.forge.app import create_app
from fleet.forge.settings import ForgeSettings, VerbLog, VerbSeen
from fleet.forge.store import ForgeStore

_GRACE_SECONDS = 5


def bind(port: int) -> socket.socket:
    """A loopback socket; ``port`` 0 picks a free one. Raises UsageError when it is taken."""
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}.", "Choose another port."
        ) from None
    return listener


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the whole text or nothing."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(text)
    os.replace(fresh, path)


def _verb_log(path: Path | None) -> VerbLog | None:
    if path is None:
        return None

    def append(seen: VerbSeen) -> None:
        with path.open("a") as out:
            out.write(json.dumps(seen._asdict()) + "\n")

    return append


def serve(root: Path, port: int, url_file: Path | None, verb_log: Path | None = None, base_url: str = "") -> None:
    """Serves until SIGTERM or SIGINT. ``url_file`` gets the base URL once the forge can be reached.

    ``base_url``: what every link carries; its own address unless something stands before it.
    """
    listener = bind(port)
    base_url = base_url or f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = ForgeStore(root, SystemClock(), SystemIds())
    app = create_app(ForgeSettings(store, base_url, verb_log=_verb_log(verb_log)))
    config = uvicorn.Config(
        app, log_level=logging.WARNING, access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip
    server = _Telling(config, base_url, url_file)
    # uvicorn repeats the signal that stopped it: with handlers that do nothing, a clean stop returns from here.
    before = [(number, signal.signal(number, _stopped)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        store.close()


def _stopped(_: int, __: FrameType | None) -> None:
    return


class _Telling(uvicorn.Server):
    """Writes the address once the server has started, not before."""

    def __init__(self, config: uvicorn.Config, base_url: str, url_file: Path | None) -> None:
        super().__init__(config)
        self._base_url = base_url
        self._url_file = url_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._url_file is not None:
            write_atomically(self._url_file, f"{self._base_url}\n")
