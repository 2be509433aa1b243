"""Serves the gateway on a private unix socket until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tomllib
from importlib.resources import files
from pathlib import Path
from types import FrameType

import uvicorn

from fleet.core.spend import PriceTable, read_prices
from fleet.gateway.app import Gateway, Patience
from fleet.gateway.books import Books

SOCKET = "gateway.sock"
OWN_PRICES = "prices.toml"
_GRACE_SECONDS = 5


def price_table(home: Path) -> PriceTable:
    """The home's own prices before the package's. Raises UsageError for a table that cannot be read."""
    package = read_prices(tomllib.loads(files("fleet.gateway").joinpath("prices.toml").read_text()), "prices.toml")
    own = home / OWN_PRICES
    if not own.exists():
        return package
    return read_prices(tomllib.loads(own.read_text()), str(own)).over(package)


def serve(books: Books, path: Path, patience: Patience) -> None:
    """Serves until SIGTERM or SIGINT; open streams get a few seconds to end."""
    listener = bind_private(path)
    config = uvicorn.Config(
        Gateway(books, patience).app(), log_level=logging.WARNING, access_log=False, server_header=False,
        lifespan="on", timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip
    before = [(number, signal.signal(number, _stopped)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        path.unlink(missing_ok=True)


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
