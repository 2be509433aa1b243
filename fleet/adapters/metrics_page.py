"""Figures as a Prometheus page on a loopback port. The only module that knows prometheus_client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fleet.core.errors import FleetError, UsageError
from fleet.core.figures import Family, FigureKind, Figures, Timings

_REQUEST_S = 10.0
# How often the server looks by itself whether to stop: hardly ever, since its thread ends with the process.
_LOOK_S = 3600.0
_STOP_S = 0.05


def page(figures: Figures) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ready([_metric(one) for one in figures]))
    return generate_latest(registry)


class MetricsPage:
    """Serves ``GET /metrics`` from threads of its own. ``figures`` is asked for each page, one at a time.

    Raises UsageError when the port is taken. ``port`` 0 takes any free one (``url`` names it).
    """

    def __init__(self, port: int, figures: Callable[[], Figures]) -> None:
        lock = threading.Lock()

        def text() -> bytes:
            with lock:
                return page(figures())

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(text))
        except OSError as error:
            raise UsageError(
                f"Port {port} for the metrics page cannot be used: {error.strerror}.",
                "Set FLEET_TELEMETRY_METRICS_PORT to a free one.",
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(_LOOK_S,), name="metrics", daemon=True).start()

    def close(self) -> None:
        """Ends a page that was started; a visitor wakes the server up, so that it looks whether to stop."""
        stopping = threading.Thread(target=self._server.shutdown, daemon=True)
        stopping.start()
        while stopping.is_alive():
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._server.server_port), _REQUEST_S).close()
            stopping.join(_STOP_S)
        self._server.server_close()


def _ours(host: str, origin: str) -> bool:
    """A site in somebody's browser must not read the page under a name of its own."""
    return (host.rpartition(":")[0] or host) in ("127.0.0.1", "localhost", "[::1]") and not origin


def _handler(text: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S

        def do_GET(self) -> None:
            if not _ours(self.headers.get("Host", ""), self.headers.get("Origin", "")):
                return self._answer(403, b"This page answers to 127.0.0.1 only.\n", "text/plain; charset=utf-8")
            if self.path.partition("?")[0] != "/metrics":
                return self._answer(404, b"The figures are at /metrics.\n", "text/plain; charset=utf-8")
            try:
                body = text()
            except FleetError as error:
                return self._answer(503, f"{error}\n".encode(), "text/plain; charset=utf-8")
            self._answer(200, body, CONTENT_TYPE_LATEST)

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def version_string(self) -> str:
            return "fleet"

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


class _Ready(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _metric(figure: Family | Timings) -> Metric:
    if isinstance(figure, Timings):
        return _histogram(figure)
    make = CounterMetricFamily if figure.kind is FigureKind.COUNTER else GaugeMetricFamily
    metric = make(figure.name, figure.help, labels=figure.names)
    values = figure.values or ({} if figure.names else {(): 0.0})
    for labels, value in sorted(values.items()):
        metric.add_metric(labels, value)
    return metric


def _histogram(figure: Timings) -> Metric:
    metric = HistogramMetricFamily(figure.name, figure.help, labels=figure.names)
    for labels, counts in sorted(figure.counts.items()):
        sofar, buckets = 0, []
        for bound, count in zip((*map(str, figure.bounds), "+Inf"), counts, strict=True):
            sofar += count
            buckets.append((bound, sofar))
        metric.add_metric(labels, buckets, figure.sums[labels])
    return metric
