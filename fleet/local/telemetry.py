"""The service ``telemetry``: runs in a home whose settings ask for traces or figures, and costs nothing elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fleet import __version__
from fleet.adapters.acl import Role
from fleet.adapters.follow import Follower
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.telemetry import about_ticket, log
from fleet.core.ticket import Ticket
from fleet.telemetry.service import Telemetry

if TYPE_CHECKING:
    from fleet.local.wiring import Wiring

NAME = "telemetry"
MEMORY = "telemetry.json"
_PATH = "/v1/traces"


def wanted(wiring: Wiring) -> bool:
    """Whether the settings, or OpenTelemetry's own variables, name somebody to tell."""
    return bool(wiring.settings.telemetry.metrics_port or _url(wiring))


def telemetry(wiring: Wiring) -> None:
    """Until SIGTERM. The libraries for spans and pages are loaded here, and nowhere else."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    port, url, sender = wiring.settings.telemetry.metrics_port, _url(wiring), None
    if url:
        from fleet.adapters.tracing import SpanSender  # noqa: PLC0415

        sender = SpanSender(url, __version__, wiring.home.collector())
        log().info("sends traces", url=url)
    service = Telemetry(
        Follower(wiring.client(Role.TELEMETRY), wiring.artifacts), wiring.clock, sender, wiring.layout.home / MEMORY
    )
    if port:
        from fleet.adapters.metrics_page import MetricsPage  # noqa: PLC0415

        page = MetricsPage(port, service.figures)
        page.start()
        log().info("serves figures", url=page.url)
    service.run(stop.wait)


def _url(wiring: Wiring) -> str:
    return spans_url(wiring.settings.telemetry.otlp_endpoint, wiring.home.env)


def spans_url(setting: str, env: Mapping[str, str]) -> str:
    """Where spans go: the fleet's setting, else OpenTelemetry's own variables; empty: nowhere."""
    if not setting and (
        env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none"
    ):
        return ""
    base = setting or env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not setting and env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    base = base.rstrip("/")
    return base if not base or base.endswith(_PATH) else base + _PATH


def accepted(ledger: RedisLedger) -> Callable[[Ticket], None]:
    """For a service that accepts tickets: a line for each."""

    def note(ticket: Ticket) -> None:
        with about_ticket(ticket, 0, ledger.incarnation):
            log().info("accepted", issue=ticket.issue, agent=ticket.agent.partition(":")[0])

    return note


def told(ledger: RedisLedger, name: str, task: Callable[..., None]) -> Callable[..., None]:
    """A Celery task about (ticket, attempt, …) whose log lines say which ticket they are about."""

    def run(ticket: str, attempt: int, round: int, turn: int = 0) -> None:
        view = ledger.view(ticket)
        if view is None:
            return
        with about_ticket(view.ticket, attempt, ledger.incarnation):
            log().info("begins", task=name, round=round)
            try:
                task(ticket, attempt, round, turn)
            except Exception as error:
                log().error("failed", task=name, round=round, error=f"{type(error).__name__}: {error}"[:300])
                raise
            log().info("ended", task=name, round=round)

    return run
