"""The gateway and the scripted model as real servers on unix sockets, a real store, and a ticket at work."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import pytest
import uvicorn

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import FleetRedis, connect
from fleet.adapters.spend import SpendBook
from fleet.adapters.spend_journal import SpendJournal
from fleet.core.spend import PriceTable, attempt_key
from fleet.core.states import Reason, State
from fleet.core.tenants import Money
from fleet.core.ticket import TicketLimits
from fleet.core.view import TicketView
from fleet.gateway.app import Gateway, Patience
from fleet.gateway.books import Books, Upstream
from fleet.gateway.server import price_table
from fleet.rehearsal.server import create_app
from tests.support.tickets import ticket
from tests.support.wait import eventually

SECRET = b"secret of the gateway"


@dataclass
class Place:
    """Everything that a test of the gateway can turn."""

    folder: Path
    client: FleetRedis
    views: dict[str, TicketView] = field(default_factory=dict)
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    prices: PriceTable = field(default_factory=lambda: price_table(Path("/nonexistent")))
    day_usd: float = 20.0
    tenant_usd: float | None = None
    fleet_usd: float | None = None
    soft: float = 1.0
    longest: float = 3600.0
    incarnation: str = "one"
    patience: Patience = field(default_factory=Patience)
    tenants: dict[str, float] = field(default_factory=dict)
    served: list[Callable[[], None]] = field(default_factory=list)

    def at_work(self, attempt: int = 1, **limits: object) -> TicketView:
        made = ticket(agent="anthropic", limits=replace(TicketLimits(), **limits))  # type: ignore[arg-type]
        view = TicketView(made, State.RUNNING, Reason.CLAIMED, 1.0, attempt=attempt)
        self.views[made.id] = view
        return view

    @property
    def book(self) -> SpendBook:
        return SpendBook(self.client)

    @property
    def journal(self) -> SpendJournal:
        return SpendJournal(self.folder / "spend")

    def books(self) -> Books:
        return Books(
            self.book, self.journal, self.views.get, self.prices, lambda: self.upstreams, SECRET,
            Money(self.day_usd, self.tenant_usd, self.fleet_usd, self.soft, self.tenants), SystemClock(), SystemIds(),
            incarnation=lambda: self.incarnation, longest=self.longest,
        )  # fmt: skip

    def serve(self) -> httpx2.Client:
        """A client of a gateway with what is set now."""
        path = self.folder / f"gateway-{len(self.served)}.sock"
        run(Gateway(self.books(), self.patience).app(), path, self.served)
        client = over(path)
        self.served.append(client.close)
        return client

    def key(self, view: TicketView) -> str:
        return attempt_key(SECRET, view.id, view.attempt)

    def script(self, text: str) -> str:
        """The model's name for a script."""
        file = self.folder / f"script-{len(list(self.folder.iterdir()))}.toml"
        file.write_text(text)
        return f"rehearsal/{file}"


def over(path: Path) -> httpx2.Client:
    return httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), timeout=20.0)


def run(app: object, path: Path, served: list[Callable[[], None]]) -> None:
    server = uvicorn.Server(
        uvicorn.Config(app, uds=str(path), log_level="critical", lifespan="auto", timeout_graceful_shutdown=1)  # type: ignore[arg-type]
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert eventually(lambda: server.started, timeout=10)

    def stop() -> None:
        server.should_exit = True
        thread.join(10)

    served.append(stop)


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="fg-"))
    redis = EmbeddedRedis(folder / "home", folder / "run", SystemClock(), SystemIds())
    redis.ensure()
    yield redis
    redis.stop()
    shutil.rmtree(folder)


@pytest.fixture
def place(store: EmbeddedRedis) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="fg-"))
    admin = connect(store.address, "admin", store.password(Role.ADMIN))
    admin.flushall()
    client = connect(store.address, "gateway", store.password(Role.GATEWAY))
    made = Place(folder, client)
    run(create_app(), folder / "rehearsal.sock", made.served)
    made.upstreams["rehearsal"] = Upstream("http://rehearsal", socket=str(folder / "rehearsal.sock"))
    yield made
    for stop in reversed(made.served):
        stop()
    client.close()
    admin.close()
    shutil.rmtree(folder)


__all__ = ["SECRET", "Mapping", "Place", "over", "run"]
