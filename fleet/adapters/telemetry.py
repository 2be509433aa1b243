"""Logs as JSON lines. The only module that knows structlog.

Every line has ``at``, ``level``, ``service``, ``event`` and, inside ``about(...)``, tenant, ticket, attempt and trace.
What other libraries log goes the same way. A log that cannot be written stops nobody's work.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

from fleet.adapters.redaction import Redactor
from fleet.core.errors import FleetError
from fleet.core.events import Envelope
from fleet.core.ports import Clock
from fleet.core.ticket import Ticket
from fleet.core.tracing import trace_id

_VALUE_CHARS = 8000
_FILE_BYTES = 32 << 20
# What these libraries say at INFO is about each single request; the fleet's own events say more.
_QUIET = (
    *("urllib3", "github", "httpx", "httpx2", "uvicorn.access", "asyncio", "kombu", "amqp"),
    *("celery.worker.strategy", "celery.app.trace"),
)
_FIRST = ("event", "tenant", "ticket", "attempt", "trace")

_redactor = Redactor()
_before: list[Callable[..., Any]] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]


def register_secret(value: str) -> None:
    """From now on ``value`` is replaced in everything this process logs."""
    _redactor.register(value)


def redacted(text: str) -> str:
    """``text`` without the registered secrets: for what leaves this process in another way than a log."""
    return _redactor.clean(text)


def listening() -> bool:
    """Whether a line at INFO goes anywhere; to make one for nobody costs fifty microseconds."""
    return logging.getLogger("fleet").isEnabledFor(logging.INFO)


def log(name: str = "fleet") -> BoundLogger:
    """A logger; silent below WARNING until ``configure_logging`` was called."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=BoundLogger,
        processors=[structlog.stdlib.filter_by_level, *_before, ProcessorFormatter.wrap_for_formatter],
        cache_logger_on_first_use=False,
    )
    return cast(BoundLogger, wrapped)


@contextmanager
def about(**context: str | int) -> Iterator[None]:
    """Every line of this thread or task inside the block carries ``tenant``, ``ticket``, ``attempt``, ``trace`` …"""
    with structlog.contextvars.bound_contextvars(**context):
        yield


def about_ticket(ticket: Ticket, attempt: int, incarnation: Callable[[], str]) -> AbstractContextManager[None]:
    """The same for work on a ticket. ``incarnation``: of the ledger; when it cannot be told now, there is no trace."""
    name = ""
    with suppress(FleetError):
        name = incarnation()
    trace = trace_id(name, ticket.id) if name else ""
    return about(tenant=ticket.tenant, ticket=ticket.id, attempt=attempt, trace=trace)


def about_event(event: Envelope, attempt: int = 0) -> AbstractContextManager[None]:
    """The same for an event of the ledger; ``attempt``: when it is about another one than that which it was told in."""
    trace = event.trace.split("-")[1] if event.trace else ""
    return about(tenant=event.tenant, ticket=event.ticket, attempt=attempt or event.attempt, trace=trace)


def configure_logging(service: str, target: Path | TextIO | None, clock: Clock, level: int = logging.INFO) -> None:
    """From now on this process logs for ``service`` to a file (0600, appended) or a stream; None: standard error.

    Calling it again, for example after a fork, replaces the former target.
    """
    handler = _handler(target)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*_before, structlog.stdlib.add_logger_name],
            processors=[ProcessorFormatter.remove_processors_meta, _Frame(service, clock), _capped, _line],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, _Target):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Target(logging.StreamHandler[TextIO]):
    """A stream that may fail: a full disk must not stop a ticket for the sake of its log."""

    def __init__(self, stream: TextIO, own: bool) -> None:
        super().__init__(stream)
        self._own = own

    def handleError(self, record: logging.LogRecord) -> None:
        return

    def close(self) -> None:
        super().close()
        if self._own:
            try:
                self.stream.close()
            except OSError:
                return


def _handler(target: Path | TextIO | None) -> _Target:
    if not isinstance(target, Path):
        return _Target(target or sys.stderr, own=False)
    if target.exists() and target.stat().st_size > _FILE_BYTES:
        target.replace(target.with_name(f"{target.name}.1"))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return _Target(os.fdopen(os.open(target, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace"), own=True)


class _Frame:
    """Adds when and who."""

    def __init__(self, service: str, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds")
        trouble = event.pop("exc_info", None)
        if trouble:
            event["exception"] = _traceback(trouble)
        first = {name: event.pop(name) for name in _FIRST if name in event}
        return {"at": at, "level": event.pop("level", "info"), "service": self._service, **first, **event}


def _traceback(trouble: Any) -> str:
    info = sys.exc_info() if trouble is True else trouble
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    return logging.Formatter().formatException(info)


def _capped(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Nobody reads ten thousand characters in one value, and somebody could make a log of nothing else."""
    return {key: _cut(value) if isinstance(value, str) else value for key, value in event.items()}


def _cut(value: str) -> str:
    return value if len(value) <= _VALUE_CHARS else f"{value[:_VALUE_CHARS]}[cut: {len(value) - _VALUE_CHARS} more]"


_json = structlog.processors.JSONRenderer(ensure_ascii=True, default=str)


def _line(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
    """One line of ASCII, so that no log can steer a terminal; redacted last, when everything is in it."""
    return _redactor.clean(str(_json(logger, name, event)))
