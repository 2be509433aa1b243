"""Serves the gateway on a private unix socket until SIGTERM."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

from fleet.adapters.web import serve_unix
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
    serve_unix(Gateway(books, patience).app(), path, grace=_GRACE_SECONDS)
