"""Tickets that do nothing, through every state, beside bare Celery tasks that do nothing either.

The store, the supervisor, the broker and the Celery workers are the real ones, each in a process of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.adapters.acl import Role
from fleet.adapters.celery_app import StockCelery
from fleet.adapters.fork import die_with, fork
from fleet.adapters.ledger import RedisAttemptChannel
from fleet.adapters.redis_client import broker_options, broker_url
from fleet.bench.figures import Figure, Report, Target, Unit
from fleet.bench.null import NullGates, NullPublisher
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


def measure(bench: Bench) -> Report:
    """Tickets a second, and the same number of tasks a second without a fleet around them."""
    count, rounds = bench.few(200, 20), bench.few(3, 1)
    fleet_rate: list[float] = []
    task_rate: list[float] = []
    stock_rate: list[float] = []
    with home(bench, FLEET_WORKERS_AGENTS="8", FLEET_WORKERS_GATES="4", FLEET_WORKERS_PUBLISH="4") as made:
        made.make()
        client = Client(made, bench.say)
        wiring = client.wiring
        wiring.open_store()
        with processes(_services(wiring), made.layout.logs):
            _tickets(bench, client, 1, 8)
            for number in range(rounds):
                seconds = _tickets(bench, client, 1000 * (number + 1), count)
                fleet_rate.append(count / seconds)
                task_rate.append(TASKS_PER_TICKET * count / seconds)
                stock_rate.append(_stock(bench, wiring, TASKS_PER_TICKET * count))
    shares = tuple(mine / other for mine, other in zip(task_rate, stock_rate, strict=True))
    return Report(
        "noop",
        f"{count} no-op tickets through every state; null git, sandbox and forge",
        (
            Figure("tickets", Unit.RATE, tuple(fleet_rate), Target(30.0, at_least=True)),
            Figure("their Celery tasks", Unit.RATE, tuple(task_rate)),
            Figure("as many bare Celery tasks", Unit.RATE, tuple(stock_rate)),
            Figure("ratio", Unit.RATIO, shares, Target(0.2, at_least=True)),
        ),
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
            for after, event in ledger.log(ticket, after, _STATE_WAIT_MS):  # noqa: B007 - the last one is kept
                if isinstance(event.data, StateChanged) and event.data.state is State.RUNNING:
                    return

    incarnation = ledger.incarnation()
    launcher = NullLauncher(RedisAttemptChannel(ledger), wiring.clock, wiring.ids, lambda: incarnation, running)
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
            run()

        return start

    pids = {name: fork(child(name, run)) for name, run in table.items()}
    try:
        yield pids
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGTERM)
        for pid in pids.values():
            os.waitpid(pid, 0)


def _tickets(bench: Bench, client: Client, first: int, count: int) -> float:
    """Seconds from the first acceptance to the last pull request. Raises InternalError when a state was left out."""
    begun = bench.clock.now()
    tickets = [accept(client, REPO, first + number, "command:true") for number in range(count)]
    wanted = {ticket.id for ticket in tickets}

    def done() -> bool:
        views = [view for view in client.ledger().views() if view.id in wanted]
        failed = [view for view in views if view.state.terminal or view.state in (State.PARKED, State.BACKING_OFF)]
        if failed:
            raise InternalError(f"No-op tickets failed: {named(failed)}.")
        return sum(view.state is State.IN_REVIEW for view in views) == count

    bench.until(done, "the no-op tickets are not published")
    log = client.ledger().log(tickets[-1].id)
    passed = tuple(event.data.state for _, event in log if isinstance(event.data, StateChanged))
    if passed != PASSED:
        raise InternalError(f"A no-op ticket went through {', '.join(state.value for state in passed)}.")
    return max(view.since for view in client.ledger().views() if view.id in wanted) - begun


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
