"""Celery carries wake-ups, and this module is all that knows it.

A wake-up says "look at this ticket" by ids; it is acknowledged early and may be lost, doubled or forged without harm
(DESIGN: the ledger holds the truth, and what it orders is begun once). So the worker here differs from a stock one:

- what arrives is checked and written anew (``fleet.adapters.wakeup``) before Celery sees it; garbage is dropped with a
  log line and cannot end the worker;
- remote control, which any holder of the broker can send, is cut down to looking and to ``revoke``;
- tasks run in daemon threads, so that a drain ends after ``soft_timeout`` even when a task does not.
"""

from __future__ import annotations

import itertools
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import Celery, signals
from celery.app import trace
from celery.apps.worker import Worker
from celery.concurrency.solo import TaskPool as SoloPool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state as worker_state
from celery.worker.control import Panel
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.exceptions import KombuError, OperationalError

from fleet.adapters import wakeup
from fleet.adapters.acl import BROKER_PREFIX
from fleet.adapters.broker_transport import guarded as _guarded
from fleet.adapters.broker_transport import lasting as _lasting
from fleet.adapters.daemons import Daemons
from fleet.adapters.ids import SystemIds
from fleet.adapters.redis_client import is_connection_error
from fleet.core.errors import InternalError, TemporaryError

log = logging.getLogger("fleet.celery")

SOFT_TIMEOUT = 15.0
HEARTBEAT = 10.0
POLL = 1.0  # a blocking read of the broker ends after this many seconds; also what a shutdown may wait for

# Looking, and revoke (which is ours, below). A forged "cancel_consumer" or "shutdown" would make a worker deaf.
_LOOKING = "ping stats active reserved scheduled revoked registered active_queues clock query_task"
CONTROL = frozenset(f"{_LOOKING} enable_events heartbeat".split())

Table = Mapping[str, Callable[..., None]]


def make_app(
    broker_url: str,
    table: Table,
    *,
    name: str,
    options: Mapping[str, Any] | None = None,
    soft_timeout: float = SOFT_TIMEOUT,
    on_revoke: Callable[[str], None] | None = None,
) -> FleetCelery:
    """``table``: task name → function ``(ticket, attempt, round[, turn])``; empty in a process that only sends.

    ``options``: ``redis_client.broker_options(address)``. ``on_revoke`` is told the task id of each revoke that
    somebody sends (in Flower); every worker hears it.
    """
    return FleetCelery(broker_url, table, name, dict(options or {}), soft_timeout, on_revoke)


class FleetCelery:
    """One process's end of the broker: sends wake-ups, or runs a worker."""

    def __init__(
        self,
        broker_url: str,
        table: Table,
        name: str,
        options: dict[str, Any],
        soft_timeout: float,
        on_revoke: Callable[[str], None] | None,
    ) -> None:
        self._table = table
        self._soft_timeout = soft_timeout
        self._on_revoke = on_revoke
        self._ids = SystemIds()
        self._sender: tuple[Any, Callable[[str, int], str]] | None = None
        self.app = _GuardedCelery(name, broker=broker_url, set_as_current=False)
        self.app.guarded_tasks = frozenset(table)
        self.app.amqp.Connection = _Connection
        self.app.conf.update(_settings(options, soft_timeout))
        for task, function in table.items():
            self.app.task(name=task, shared=False)(_runner(task, function))

    def wake(self, queue: str, task: str, ids: tuple[str, ...], task_id: str) -> None:
        """Sends one wake-up: ``ids`` are the ticket, the attempt, the round and perhaps the turn.

        Raises TemporaryError when the broker is away; the outbox still holds the order, so nothing is lost.
        """
        try:
            message = wakeup.checked(task, task_id, ids)
        except ValueError as error:
            raise InternalError(f"A wake-up for {queue} was not sent: {error}.") from error
        raw = json.dumps(wakeup.new(message, queue, self._ids.hex(32)))
        for last in (False, True):
            try:
                self._push(queue, raw)
                return
            except Exception as error:
                if not isinstance(error, OperationalError | KombuError | OSError) and not is_connection_error(error):
                    raise
                self._sender = None
                if last:
                    raise TemporaryError(f"The broker did not take the wake-up for {ids[0]}.") from error

    def _push(self, queue: str, raw: str) -> None:
        """Straight into the queue's list. Celery's own way costs ten times as much of the supervisor's time: a new
        client object per command, and an event "sent" that says no more than "received" does.
        """
        if self._sender is None:
            with self.app.pool.acquire(block=True) as connection:
                channel: Any = getattr(connection, "default_channel")  # noqa: B009 - the stubs say Producer
                self._sender = (channel._create_client(), channel._q_for_pri)
        client, key = self._sender
        client.lpush(key(queue, 0), raw)

    def worker(self, queue: str, concurrency: int, pool: str = "threads", name: str = "") -> bool:
        """Runs a worker of one queue until SIGTERM or SIGINT. True: every task had ended when this returned.

        After the signal no message is taken any more; running tasks get ``soft_timeout`` seconds. False: some still
        ran; their threads die with the process.
        """
        pools: dict[str, type[Any]] = {"threads": _Threads, "solo": SoloPool}
        chosen: Any = type("Pool", (pools[pool],), {"soft_timeout": self._soft_timeout, "drained": True})
        with _logging_is_ours(), _remote_control(self._on_revoke), _stop_signals():
            worker = _Worker(
                app=self.app,
                hostname=f"{name or queue}@fleet",
                queues=[queue],
                concurrency=concurrency,
                pool_cls=chosen,
                without_gossip=True,
                without_mingle=True,
                heartbeat_interval=HEARTBEAT,
                task_events=True,
                loglevel=logging.getLogger().getEffectiveLevel(),
            )
            worker.start()
        if worker.exitcode:
            raise InternalError(f"The worker of queue {queue} ended by an error; its log says which.")
        return bool(chosen.drained)

    def close(self) -> None:
        """Gives back the connections."""
        self.app.close()


class StockCelery:
    """Celery as it comes with one task that does nothing: what ``fleet bench`` compares the fleet with."""

    def __init__(self, broker_url: str, options: Mapping[str, Any]) -> None:
        self.app = Celery("stock", broker=broker_url, set_as_current=False)
        self.app.conf.update(
            broker_transport_options=dict(options),
            task_ignore_result=True,
            worker_prefetch_multiplier=4,
            worker_hijack_root_logger=False,
        )

    def send(self, queue: str, count: int) -> None:
        """``count`` messages, each with three ids as a wake-up has them."""
        for _ in range(count):
            self.app.send_task("stock.nothing", args=("ticket-1-abcdef", "1", "0"), queue=queue)

    def worker(self, queue: str, concurrency: int, every: int, tell: Callable[[], object]) -> None:
        """Serves until SIGTERM; calls ``tell`` after the first task and after each ``every`` more."""
        done = itertools.count()

        def nothing(*ids: str) -> None:
            if next(done) % every == 0:
                tell()

        self.app.task(name="stock.nothing", shared=False)(nothing)
        with _logging_is_ours():
            argv = ["worker", "-Q", queue, "-P", "threads", "-c", str(concurrency), "-l", "ERROR", "-n", "stock@fleet"]
            self.app.worker_main(argv)

    def close(self) -> None:
        self.app.close()


def _settings(options: Mapping[str, Any], soft_timeout: float) -> dict[str, Any]:
    """Each line answers something that was measured; see the facts in docs."""
    transport = {
        "global_keyprefix": BROKER_PREFIX,
        "visibility_timeout": 12 * 3600,
        "polling_interval": POLL,
        "priority_steps": [0],
        "socket_timeout": 20.0,
        "socket_connect_timeout": 5.0,
        "socket_keepalive": True,
        **options,
    }
    retry = {"max_retries": 2, "interval_start": 0.05, "interval_step": 0.2, "interval_max": 0.5}
    return {
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5.0,
        "task_publish_retry": True,
        "task_publish_retry_policy": retry,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,
        "result_backend": None,
        "task_serializer": "json",
        "event_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_disable_rate_limits": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": soft_timeout,
        "worker_pool_restarts": False,
    }


def _runner(task: str, function: Callable[..., None]) -> Callable[..., None]:
    """The Celery task: checks once more (an eager call passes no guard) and calls the service's plain function."""

    def run(*ids: str) -> None:
        function(*wakeup.checked(task, "eager", ids).arguments)

    run.__name__ = task.replace(".", "_")
    run.__doc__ = function.__doc__
    return run


# --- the guard: nothing from the broker is believed ------------------------------------------------------------------


class _Lasting:
    """For every connection and its copies in the pools: see ``broker_transport.lasting``."""

    def get_transport_cls(self) -> Any:
        stock: Any = super()
        return _lasting(stock.get_transport_cls())


class _Pooled(_Lasting, PooledConnection):
    pass


class _Pool(ConnectionPool):
    def new(self) -> Any:
        return _Pooled(self, **dict(self.connection._info(resolve=False)))


class _Connection(_Lasting, Connection):
    def Pool(self, limit: Any = None, **options: Any) -> Any:
        return _Pool(self, limit, **options)


class _GuardedCelery(Celery):
    """Consumes through a transport that checks; everything else is stock."""

    guarded_tasks: frozenset[str] = frozenset()

    def connection_for_read(self, url: Any = None, **kwargs: Any) -> Any:
        connection = super().connection_for_read(url, **kwargs)
        connection.transport_cls = _guarded(connection.get_transport_cls(), self.guarded_tasks)
        return connection


@contextmanager
def _remote_control(on_revoke: Callable[[str], None] | None) -> Iterator[None]:
    """Only looking is left, and a revoke that tells ``on_revoke`` instead of touching threads."""

    def revoke(state: Any, task_id: Any, **_: Any) -> dict[str, str]:
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        for one in ids:
            if isinstance(one, str) and wakeup.TASK_ID.fullmatch(one) and on_revoke is not None:
                on_revoke(one)
        return {"ok": "the fleet was told"}

    before = dict(Panel.data)
    kept = {name: handler for name, handler in before.items() if name in CONTROL}
    Panel.data.clear()
    Panel.data.update(kept, revoke=revoke)
    try:
        yield
    finally:
        Panel.data.clear()
        Panel.data.update(before)


# --- the worker ------------------------------------------------------------------------------------------------------


class _Worker(Worker):
    """No banner, no process title, no warning about root (nothing of a message is unpickled), no foreign signals."""

    def on_before_init(self, quiet: bool = True, **kwargs: Any) -> None:
        self.quiet = True
        trace.setup_worker_optimizations(self.app, getattr(self, "hostname", None))

    def install_platform_tweaks(self, worker: Any) -> None:
        """Signals are set in ``_stop_signals``."""

    def set_process_status(self, info: Any) -> None:
        """The fleet names its own processes."""


def stopping() -> bool:
    """Whether this process's worker was told to stop: tasks that merely watch something may return early."""
    return worker_state.should_stop is not None


@contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM and SIGINT: stop taking messages, then drain. A second one kills."""

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        setattr(worker_state, "should_stop", 0)  # noqa: B010 - declared as None in the stubs

    worker_state.should_stop = None
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)} if here else {}
    try:
        yield
    finally:
        worker_state.should_stop = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _logging_is_ours() -> Iterator[None]:
    def keep(**_: object) -> None:
        """A receiver of this signal keeps Celery from configuring any logger."""

    signals.setup_logging.connect(keep, weak=False)
    try:
        yield
    finally:
        signals.setup_logging.disconnect(keep)


class _Threads(ThreadPool):
    """Celery's thread pool on daemon threads; its stop is bounded."""

    soft_timeout = SOFT_TIMEOUT
    drained = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = Daemons(self.limit)

    def on_stop(self) -> None:
        type(self).drained = self.executor.drain(self.soft_timeout)

    def _get_info(self) -> dict[str, Any]:
        return {"max-concurrency": self.limit, "threads": self.executor.threads}
