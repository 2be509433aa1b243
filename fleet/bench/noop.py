"""Tickets that do nothing, through every state, beside bare Celery tasks that do nothing either.

The store, the supervisor, the broker and the Celery workers are the real ones, each in a process of its own.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet.adapters.acl import Role
from fleet.adapters.celery_app import StockCelery
from fleet.adapters.fork import die_with, fork, name_process
from fleet.adapters.ledger import RedisAttemptChannel
from fleet.adapters.redis_client import broker_options, broker_url
from fleet.bench.figures import Figure, Report, Target, Unit, ratios
from fleet.bench.null import NullGates, NullPublisher
from fleet.bench.procs import costs, per_piece
from fleet.bench.rooms import Bench, accept, home, named
from fleet.core.errors import InternalError
from fleet.core.events import StateChanged
from fleet.core.states import State
from fleet.local.client import Client
from fleet.local.host import redirect
from fleet.local.services import supervisor
from fleet.local.wiring import Wiring
from workers.null import NullLauncher
from workers.tasks import AgentTasks

REPO = "bench/noop"
PASSED = (State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING, State.IN_REVIEW)
TASKS_PER_TICKET = 4  # attempt, gates, pull request, and the status comment when it runs
_STATE_WAIT_MS = 2000
# Tasks mostly wait for the store's disk, so a core can serve many at once; and so does whoever accepts tickets.
_WORKERS = {"FLEET_WORKERS_AGENTS": "16", "FLEET_WORKERS_GATES": "16", "FLEET_WORKERS_PUBLISH": "16"}
_DOORS = 8


def measure(bench: Bench) -> Report:
    """Tickets a second, and the same number of tasks a second without a fleet around them."""
    count, rounds = bench.few(200, 20), bench.few(3, 1)
    fleet_rate: list[float] = []
    stock_rate: list[float] = []
    with home(bench, **_WORKERS) as made:
        made.make()
        client = Client(made, bench.say)
        wiring = client.wiring
        wiring.open_store()
        with processes(_services(wiring), made.layout.logs) as pids:
            tickets = _Tickets(bench, client, pids)
            tickets.pass_through(8)
            for _ in range(rounds):
                fleet_rate.append(count / tickets.pass_through(count))
                stock_rate.append(_stock(bench, wiring, TASKS_PER_TICKET * count))
    task_rate = tuple(TASKS_PER_TICKET * rate for rate in fleet_rate)
    return Report(
        "noop",
        f"{count} no-op tickets through every state; null git, sandbox and forge",
        (
            Figure("tickets", Unit.RATE, tuple(fleet_rate), Target(30.0, at_least=True)),
            Figure("their Celery tasks", Unit.RATE, task_rate),
            Figure("as many bare Celery tasks", Unit.RATE, tuple(stock_rate)),
            Figure("ratio", Unit.RATIO, ratios(task_rate, stock_rate), Target(0.2, at_least=True)),
        ),
        ("what a ticket of the last round cost:", *tickets.spent),
    )


def _services(wiring: Wiring) -> dict[str, Callable[[], None]]:
    return {
        "supervisor": lambda: supervisor(wiring),
        "agents": lambda: _agents(wiring),
        "gates": lambda: _gates(wiring),
        "publisher": lambda: _publisher(wiring),
    }


def _agents(wiring: Wiring) -> None:
    ledger = wiring.ledger(Role.ATTEMPT)

    def running(ticket: str) -> None:
        after = "0"
        while True:
            for cursor, event in ledger.log(ticket, after, _STATE_WAIT_MS):
                after = cursor
                if isinstance(event.data, StateChanged) and event.data.state is State.RUNNING:
                    return

    incarnation = functools.cache(ledger.incarnation)
    launcher = NullLauncher(RedisAttemptChannel(ledger), wiring.clock, wiring.ids, incarnation, running)
    tasks = AgentTasks(wiring.ledger(Role.AGENTS), launcher, wiring.clock, "bench")

    def attempt(ticket: str, number: int, round: int, turn: int = 0) -> None:
        tasks.attempt(ticket, number, round)

    wiring.celery(Role.AGENTS, {"agents.attempt": attempt}).worker("agents", wiring.settings.workers.agents)


def _gates(wiring: Wiring) -> None:
    tasks = NullGates(wiring.ledger(Role.GATES), wiring.clock)

    def run(ticket: str, number: int, round: int, turn: int = 0) -> None:
        tasks.run(ticket, number, round)

    wiring.celery(Role.GATES, {"gates.run": run}).worker("gates", wiring.settings.workers.gates)


def _publisher(wiring: Wiring) -> None:
    tasks = NullPublisher(wiring.ledger(Role.PUBLISHER), wiring.clock)

    def task(run: Callable[[str, int, int], None]) -> Callable[..., None]:
        return lambda ticket, number, round, turn=0: run(ticket, number, round)

    table = {
        "publish.pull_request": task(tasks.pull_request),
        "publish.status": task(tasks.status),
        "publish.withdraw": task(tasks.withdraw),
    }
    wiring.celery(Role.PUBLISHER, table).worker("publish", wiring.settings.workers.publish)


@contextmanager
def processes(table: dict[str, Callable[[], None]], logs: Path) -> Iterator[dict[str, int]]:
    """Each function in a process of its own; all get SIGTERM in the end and are waited for."""
    parent = os.getpid()

    def child(name: str, run: Callable[[], None]) -> Callable[[], None]:
        def start() -> None:
            die_with(parent)
            redirect(logs / f"{name}.log")
            name_process(f"fleet-{name}")
            run()

        return start

    pids = {name: fork(child(name, run)) for name, run in table.items()}
    try:
        yield pids
    finally:
        for pid in pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for pid in pids.values():
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _alive(pids: Mapping[str, int], logs: Path) -> None:
    """Raises InternalError with the last words of a process that ended by itself."""
    for name, pid in pids.items():
        if os.waitpid(pid, os.WNOHANG)[0]:
            said = (logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
            raise InternalError(f"The process {name} ended: {said[-1] if said else 'it said nothing'}")


class _Tickets:
    """Sends tickets through a running fleet, with new numbers each time."""

    def __init__(self, bench: Bench, client: Client, pids: Mapping[str, int]) -> None:
        self.spent: tuple[str, ...] = ()
        self._bench = bench
        self._client = client
        self._ledger = client.ledger()
        self._pids = pids
        self._next = 1

    def pass_through(self, count: int) -> float:
        """Seconds from the first acceptance to the last pull request.

        Raises InternalError when a ticket failed or left a state out.
        """
        watched = [os.getpid(), *self._pids.values(), self._client.wiring.embedded.pid() or 0]
        before, begun = costs(watched), self._bench.clock.now()
        numbers = range(self._next, self._next + count)
        self._next += count
        with ThreadPoolExecutor(_DOORS) as doors:
            tickets = list(doors.map(lambda number: accept(self._client, REPO, number, "command:true").id, numbers))
        waiting = list(tickets)
        self._bench.until(lambda: self._published(waiting), "the no-op tickets are not published")
        self.spent = per_piece(before, costs(watched), count)
        passed = self._states(tickets[-1])
        if passed != PASSED:
            raise InternalError(f"A no-op ticket went through {', '.join(state.value for state in passed)}.")
        wanted = set(tickets)
        return max(view.since for view in self._ledger.views() if view.id in wanted) - begun

    def _published(self, waiting: list[str]) -> bool:
        """Whether all are; those that are leave the list, and only one that is not is looked at again."""
        _alive(self._pids, self._client.home.layout.logs)
        while waiting:
            view = self._ledger.view(waiting[-1])
            if view is None or view.state is not State.IN_REVIEW:
                if view is not None and not view.state.active:
                    raise InternalError(f"A no-op ticket failed: {named([view])}.")
                return False
            waiting.pop()
        return True

    def _states(self, ticket: str) -> tuple[State, ...]:
        log = self._ledger.log(ticket)
        return tuple(event.data.state for _, event in log if isinstance(event.data, StateChanged))


def _stock(bench: Bench, wiring: Wiring, count: int) -> float:
    """Bare Celery no-op tasks a second: one sender, one worker, the same store."""
    url = broker_url(wiring.address, Role.AGENTS.value, wiring.password(Role.AGENTS))
    celery = StockCelery(url, broker_options(wiring.address))
    told, tell = os.pipe()

    def worker() -> None:
        os.close(told)
        celery.worker("bench-stock", wiring.settings.workers.agents, count, lambda: os.write(tell, b"."))

    with processes({"stock": worker}, wiring.layout.logs):
        os.close(tell)
        celery.send("bench-stock", 1)
        os.read(told, 1)
        begun = bench.clock.monotonic()
        celery.send("bench-stock", count)
        os.read(told, 1)
        seconds = bench.clock.monotonic() - begun
    os.close(told)
    celery.close()
    return count / seconds
