"""Spans over OTLP/HTTP. The only module that knows OpenTelemetry; it is loaded where an address for spans is set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from fleet.adapters.telemetry import redacted, register_secret
from fleet.core.tracing import SpanData, Value

_NANO = 1_000_000_000
_MOST_CHARS = 200
_MOST_INT = 2**63 - 1


class SpanSender:
    """``url``: where spans are posted, with its path. ``headers``: ``name=value,…``, as OpenTelemetry writes them.

    Certificates and compression come from OpenTelemetry's own variables.
    """

    def __init__(self, url: str, version: str, headers: str = "", seconds: float = 10.0) -> None:
        register_secret(urlsplit(url).password or "")
        sent = _read(headers)
        for secret in sent.values():
            # Whole and without its scheme, since "Bearer abc" may also be met as "abc".
            register_secret(secret)
            register_secret(secret.rpartition(" ")[2])
        # Its own words name each try; the caller says once that spans are not taken.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(endpoint=url, headers=sent, timeout=seconds)
        self._resource = Resource.create({"service.name": "fleet", "service.version": version})
        self._scope = InstrumentationScope("fleet", version)

    def send(self, spans: Sequence[SpanData]) -> bool:
        """Whether the other side took them all; blocks for some seconds at most."""
        made = [_readable(span, self._resource, self._scope) for span in spans]
        return self._exporter.export(made) is SpanExportResult.SUCCESS


def _read(headers: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in headers.split(","))
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs if name.strip()}


def _readable(span: SpanData, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    return ReadableSpan(
        _short(span.name),
        _context(span.trace, span.span),
        _context(span.trace, span.parent) if span.parent else None,
        resource,
        _clean(span.attributes),
        [Event(mark.name, _clean(mark.attributes), round(mark.at * _NANO)) for mark in span.marks],
        kind=SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, _short(span.error)) if span.error else Status(),
        start_time=round(span.start * _NANO),
        end_time=round(span.end * _NANO),
        instrumentation_scope=scope,
    )


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _clean(attributes: tuple[tuple[str, Value], ...]) -> dict[str, Value]:
    return {name: _plain(value) for name, value in attributes}


def _plain(value: Value) -> Value:
    """What the wire can carry: one number that it cannot would keep the whole trace from being sent."""
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_MOST_INT, min(value, _MOST_INT))
    return value


def _short(text: str) -> str:
    return redacted(text)[:_MOST_CHARS]
