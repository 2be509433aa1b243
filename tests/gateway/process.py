"""One gateway as a process of its own, so that a test can kill it: ``python -m tests.gateway.process JSON``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import RedisAddress, connect
from fleet.adapters.spend import SpendBook
from fleet.adapters.spend_journal import SpendJournal
from fleet.core.codec import decode
from fleet.core.tenants import Money
from fleet.core.view import TicketView
from fleet.gateway.app import Patience
from fleet.gateway.books import Books, Upstream
from fleet.gateway.server import price_table, serve
from tests.support.mutants import Mutant


def main(text: str) -> None:
    """``mutant``: a protection that this gateway does not have; empty for none."""
    say = json.loads(text)
    if say["mutant"]:
        Mutant(*say["mutant"]).install(pytest.MonkeyPatch())
    view = decode(say["view"].encode(), TicketView)
    client = connect(RedisAddress(socket=Path(say["store"])), "gateway", say["password"])
    upstreams = {"rehearsal": Upstream("http://rehearsal", socket=say["model"])}
    journal = SpendJournal(Path(say["path"]).parent / "spend")
    books = Books(
        SpendBook(client), journal, {view.id: view}.get, price_table(Path("/nonexistent")), lambda: upstreams,
        say["secret"].encode(), Money(20.0, None, None, 1.0, {}), SystemClock(), SystemIds(),
    )  # fmt: skip
    serve(books, Path(say["path"]), Patience())


if __name__ == "__main__":
    main(sys.argv[1])
