"""A real fleet tells a real collector and a real scrape what it did; its collector's key stays where it belongs."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.kit import UNUSED, fleet_home, repository
from tests.support.wait import eventually
from tests.telemetry.collector import Collector, attributes

CANARY = "collector-key-canary-77"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.invariant("I7")
def test_a_ticket_is_a_trace_and_figures_and_lines(tmp_path: Path) -> None:
    collector, port = Collector(), free_port()
    collector.start()
    asked = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/v1/traces"),
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={CANARY}",
        "FLEET_TELEMETRY_METRICS_PORT": str(port),
    }
    try:
        with fleet_home(None, **asked) as fleet:
            done = fleet.ticket(repository(tmp_path / "project"), UNUSED)
            assert (done.code, done.result["state"]) == (0, "in_review"), done.err
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
                families = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
            states = {sample.labels["state"]: sample.value for sample in families["fleet_tickets"].samples}
            assert states["in_review"] == 1
            assert eventually(lambda: collector.raw, 30.0)
            roots = [span for span in collector.spans() if not span.parent_span_id]
            assert [attributes(root)["fleet.state"] for root in roots] == ["in_review"]
            trace = roots[0].trace_id.hex()
            assert {span.trace_id.hex() for span in collector.spans()} == {trace}
            assert collector.headers["x-api-key"] == CANARY
            about = [
                (file.stem, line)
                for file in fleet.layout.logs.glob("*.log")
                for line in map(json.loads, file.read_text().splitlines())
                if line.get("trace") == trace
            ]
            assert {name for name, _ in about} >= {"supervisor", "attempts", "agents", "gates", "publisher"}
            keeps = [
                name
                for name, pid in fleet.services().items()
                if CANARY.encode() in Path(f"/proc/{pid}/environ").read_bytes()
            ]
            assert keeps == []
            written = [
                file
                for file in fleet.home.rglob("*")
                if file.is_file() and file.parent.name != "secrets" and CANARY.encode() in file.read_bytes()
            ]
            assert written == []
            assert fleet("down").code == 0
    finally:
        collector.close()
