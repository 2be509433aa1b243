"""The services as functions that run until SIGTERM: what the host forks, and what ``fleet service NAME`` runs alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial

# The wiring imports these when they are needed; here they come before the forks, which then share their memory.
import fleet.adapters.artifacts
import fleet.adapters.celery_app
import fleet.adapters.environments.service
import fleet.adapters.forge_client
import fleet.adapters.mirror
import fleet.adapters.sandbox
import fleet.forge.store  # noqa: F401
from ci_gates.tasks import GateTasks
from fleet.adapters.acl import Role
from fleet.adapters.archive_store import ArchiveStore
from fleet.adapters.celery_app import stopping
from fleet.adapters.git import BareRepo
from fleet.adapters.launcher import HOST_SOCKET, LocalLauncher
from fleet.adapters.ledger import RedisAttemptChannel
from fleet.adapters.shard_store import ShardStore
from fleet.adapters.spend import SpendBook
from fleet.adapters.spend_journal import SpendJournal
from fleet.adapters.telemetry import configure_logging, log, register_secret
from fleet.adapters.web import loopback, serve_beside
from fleet.core.effects import WAKES, Effect, EffectKind
from fleet.core.errors import TemporaryError, UsageError
from fleet.core.routes import default_agent
from fleet.core.spend import attempt_key
from fleet.core.ticket import Ticket, TicketLimits
from fleet.forge.server import serve as serve_forge
from fleet.gateway.app import Patience
from fleet.gateway.books import Books
from fleet.gateway.server import SOCKET as GATEWAY_SOCKET
from fleet.gateway.server import price_table
from fleet.gateway.server import serve as serve_gateway
from fleet.intake.comments import CommentIntake
from fleet.intake.endpoint import create_app
from fleet.intake.labels import LabelIntake
from fleet.intake.recovery import Recovery
from fleet.intake.sweep import EVERY, Sweep
from fleet.local import hold, keys, telemetry, watches
from fleet.local.attempts import highest_begun
from fleet.local.forges import LOCAL, is_local
from fleet.local.gating import gate_runner
from fleet.local.places import HomePlaces
from fleet.local.revoke import canceller
from fleet.local.wiring import REPO_FILE, CeleryWaker, Wiring, host_name
from fleet.publisher.service import Publisher, Remote
from fleet.publisher.tasks import PublisherTasks
from fleet.rehearsal.server import serve as serve_rehearsal
from supervisor.admission import Caps
from supervisor.archive import Archivist, Keeping
from supervisor.policy import Policy
from supervisor.service import Supervisor
from workers import host as attempt_host
from workers.agents import backend_for
from workers.agents import warm as warm_agents
from workers.guard import Guard, Post
from workers.loop import Tools
from workers.tasks import AgentTasks

Service = Callable[[], None]
# Beside these there is ``telemetry``, in a home whose settings ask for it.
NAMES = ("forge", "gateway", "rehearsal", "intake", "supervisor", "attempts", "agents", "gates", "publisher")


def services(wiring: Wiring) -> Mapping[str, Service]:
    """Every service of a home by name, in the order in which they are started."""
    table = {
        "forge": forge,
        "gateway": gateway,
        "rehearsal": rehearsal,
        "intake": intake,
        "supervisor": supervisor,
        "attempts": attempts,
        "agents": agents,
        "gates": gates,
        "publisher": publisher,
    }
    bound = {name: _bind(run, wiring) for name, run in table.items()}
    for number in range(2, wiring.settings.workers.supervisors + 1):
        bound[f"supervisor-{number}"] = _bind(supervisor, wiring)
    if telemetry.wanted(wiring):
        bound[telemetry.NAME] = _bind(telemetry.telemetry, wiring)
    return bound


def _bind(run: Callable[[Wiring], None], wiring: Wiring) -> Service:
    def service() -> None:
        for secret in (*wiring.tokens().values(), *keys.tokens(wiring.home)):
            register_secret(secret)
        configure_logging(run.__name__, sys.stderr, wiring.clock)
        run(wiring)

    return service


def forge(wiring: Wiring) -> None:
    """The local forge on its loopback port."""
    port = wiring.forge_port or int(wiring.forge_url.rpartition(":")[2])
    serve_forge(wiring.layout.forge, port, wiring.layout.runtime / "forge.url", base_url=wiring.forge_url)


def gateway(wiring: Wiring) -> None:
    """The model gateway: the only reader of the real keys."""
    home, settings = wiring.home, wiring.settings
    for secret in keys.secrets(home):
        register_secret(secret)
    client = wiring.client(Role.GATEWAY)
    # The supervisor notices a silent model first, and says something to the agent; this is only the last resort.
    patience = Patience(head=settings.supervision.model_silence * 1.5 + 30.0)
    books = Books(
        SpendBook(client),
        SpendJournal(wiring.layout.spend),
        wiring.ledger(Role.GATEWAY).view,
        price_table(wiring.layout.home),
        lambda: keys.upstreams(home),
        home.gateway_key(wiring.ids),
        settings.money(),
        wiring.clock,
        wiring.ids,
        wiring.ledger(Role.GATEWAY).incarnation,
        patience.longest,
        wiring.ledger(Role.GATEWAY).recovered,
    )
    serve_gateway(books, wiring.layout.runtime / GATEWAY_SOCKET, patience)


def rehearsal(wiring: Wiring) -> None:
    """The scripted model, for rehearsals and the demo: no key, no network."""
    serve_rehearsal(wiring.layout.runtime / keys.REHEARSAL_SOCKET)


def intake(wiring: Wiring) -> None:
    """Turns labels into tickets, and watches what becomes of issues and pull requests.

    Commands accept tickets by themselves, in this role too.
    """
    stop = _stop_on_term()
    ledger, forge = wiring.ledger(Role.INTAKE), wiring.forge_client("read")
    chosen = wiring.settings.intake

    def limits(repo: str, branch: str) -> TicketLimits:
        return wiring.limits_from(repo, forge.read_file(repo, REPO_FILE, branch), branch)

    def agents(repo: str, branch: str, agent: str) -> tuple[str, ...]:
        if not wiring.settings.agents.route:
            return (agent,)
        return wiring.agents_from(forge.read_file(repo, REPO_FILE, branch), branch, agent)

    def every(repo: str) -> float:
        return min(EVERY, chosen.poll_seconds) if is_local(repo) else chosen.poll_seconds

    journal = SpendJournal(wiring.layout.spend)
    recovery = Recovery(
        ledger,
        forge,
        wiring.clock,
        wiring.home.state_key(wiring.ids),
        lambda: watches.places(wiring.home, wiring.settings),
        lambda repo: watches.agent(wiring.home, wiring.settings, repo),
        limits,
        lambda ticket: highest_begun(wiring.layout, ticket),
        lambda ticket: journal.lost(ledger.incarnation()).ticket(ticket),
    )
    labels = LabelIntake(ledger, forge, wiring.clock, limits, agents, recovery, wiring.settings.tenants)
    people = wiring.ledger(Role.PEOPLE)
    comments = CommentIntake(people, forge, wiring.clock, HomePlaces(wiring.home))

    watched = partial(watches.known, wiring.home, wiring.settings)
    hold_again = partial(hold.again, wiring.home, people)
    sweep = Sweep(ledger, labels, forge, wiring.clock, watched, every, comments, recovery, hold_again)
    if chosen.webhook_port:
        secret = watches.secret(wiring.home, wiring.ids)
        register_secret(secret)
        try:
            serve_beside(create_app(secret, sweep.heard), loopback(chosen.webhook_port))
        except UsageError as error:  # the sweep finds every label all the same, only later
            log("intake").error("no webhooks are taken", why=str(error))
    sweep.run(stop.wait)


def supervisor(wiring: Wiring) -> None:
    """One supervisor process; any number may run."""
    stop = _stop_on_term()
    member = f"{host_name()}:{os.getpid()}:{wiring.ids.hex(6)}"
    store = ShardStore(wiring.client(Role.SUPERVISOR), member)
    store.open(wiring.ids.hex(16))
    celery = wiring.celery(Role.SUPERVISOR, {})
    chosen = wiring.settings
    policy = Policy(**asdict(chosen.supervision))
    most = chosen.caps
    places = {name: one.tickets for name, one in chosen.tenants.items() if one.tickets is not None}
    caps = Caps(most.tickets, most.per_tenant, most.per_repo, most.open_pull_requests, places)
    waker = CeleryWaker(celery)
    keeping = Keeping(keep=chosen.ledger.keep_days * 86_400)
    archivist = Archivist(ArchiveStore(wiring.client(Role.SUPERVISOR)), wiring.artifacts, wiring.clock, keeping)
    Supervisor(store, waker, wiring.clock, wiring.dice, policy, caps, archivist).run(stop.is_set)
    celery.close()


def attempts(wiring: Wiring) -> None:
    """The attempt host: warmed once, forks a guard per attempt."""
    secret = wiring.home.gateway_key(wiring.ids)
    tools = Tools(
        wiring.mirrors(),
        wiring.environments,
        wiring.open_sandbox,
        wiring.artifacts,
        backend_for,
        wiring.clock,
        wiring.layout.runtime / GATEWAY_SOCKET,
        lambda ticket, attempt: attempt_key(secret, ticket, attempt),
    )
    wiring.environments.warm()
    if keys.secrets(wiring.home) or default_agent(wiring.settings.agents):
        # A fleet that only runs commands need not wait three seconds for the models' SDKs.
        warm_agents()

    def run_attempt(ticket: str, attempt: int) -> None:
        ledger = wiring.ledger(Role.ATTEMPT)
        # Asked for each attempt anew: the ledger may be another one than when this host began.
        incarnation = ledger.incarnation()
        channel = RedisAttemptChannel(ledger, incarnation)
        folder = wiring.layout.attempts / f"{ticket}.{attempt}"
        post = Post(host_name(), incarnation, f"{os.getpid()}:{wiring.ids.hex(12)}", folder / "events.spool")
        guard = Guard(ticket, attempt, channel=channel, post=post, slots=wiring.slots, tools=tools, clock=wiring.clock)
        guard.run()

    socket_path = wiring.layout.runtime / HOST_SOCKET
    attempt_host.serve(socket_path, wiring.layout.attempts, run_attempt, wiring.clock, wiring.slots.sweep)


def agents(wiring: Wiring) -> None:
    """The Celery worker of the queue ``agents``: starts attempts and waits for them, so that Flower shows them."""
    launcher = LocalLauncher(wiring.layout, wiring.clock)
    tasks = AgentTasks(wiring.ledger(Role.AGENTS), launcher, wiring.clock, host_name(), stopping)

    def attempt(ticket: str, number: int, round: int, turn: int = 0) -> None:
        tasks.attempt(ticket, number, round)

    revoked = canceller(wiring.ledger(Role.PEOPLE), wiring.clock)
    celery = wiring.celery(
        Role.AGENTS, {"agents.attempt": telemetry.told(wiring.ledger(Role.AGENTS), "attempt", attempt)}, revoked
    )
    for live in tasks.reattach():
        # Attempts outlive their worker; a wake-up of its own makes each a running task again, for Flower and the log.
        with suppress(TemporaryError):
            ids, start = (
                (live.ticket, str(live.attempt), "0"),
                Effect(EffectKind.START_ATTEMPT, live.ticket, live.attempt),
            )
            celery.wake(*WAKES[EffectKind.START_ATTEMPT], ids, start.id)
    celery.worker("agents", wiring.settings.workers.agents, name="agents")


def gates(wiring: Wiring) -> None:
    """The Celery worker of the queue ``gates``."""

    def fetch_base(ticket: Ticket) -> str:
        url, token = wiring.read_origin(ticket.repo)
        ref = f"refs/bases/{ticket.base}"
        wiring.store(ticket.repo).fetch(url, (f"+refs/heads/{ticket.base}:{ref}",), token)
        return wiring.store(ticket.repo).rev(ref) or ""

    tasks = GateTasks(
        wiring.ledger(Role.GATES),
        gate_runner(wiring),
        wiring.store,
        wiring.artifacts,
        fetch_base,
        wiring.clock,
        host_name(),
        stopping,
    )

    def run(ticket: str, number: int, round: int, turn: int = 0) -> None:
        tasks.run(ticket, number, round)

    celery = wiring.celery(Role.GATES, {"gates.run": telemetry.told(wiring.ledger(Role.GATES), "gates", run)})
    _drain("gates", celery.worker("gates", wiring.settings.workers.gates, name="gates"), tasks.hand_back)


def publisher(wiring: Wiring) -> None:
    """The Celery worker of the queue ``publish``: the only holder of the write token."""

    def remote(repo: str) -> Remote:
        return Remote(wiring.forges.git_url(repo), wiring.forges.auth(repo, "write"), not is_local(repo))

    def store(repo: str) -> BareRepo:
        return wiring.store(repo)

    ledger = wiring.ledger(Role.PUBLISHER)
    service = Publisher(
        wiring.forge_client("write"),
        ledger,
        wiring.artifacts,
        wiring.clock,
        store,
        remote,
        wiring.home.state_key(wiring.ids),
        wiring.settings.github.trusted_workflows,
        SpendBook(wiring.client(Role.PUBLISHER)).ticket,
    )
    wiring.forges.client(f"{LOCAL}/", "write")  # its library takes a second to load; no ticket should wait for it
    tasks = PublisherTasks(ledger, service, wiring.clock, host_name(), stopping)

    def task(run: Callable[[str, int, int], None]) -> Callable[..., None]:
        return telemetry.told(ledger, run.__name__, lambda ticket, number, round, turn=0: run(ticket, number, round))

    table = {
        "publish.pull_request": task(tasks.pull_request),
        "publish.status": task(tasks.status),
        "publish.withdraw": task(tasks.withdraw),
    }
    celery = wiring.celery(Role.PUBLISHER, table)
    _drain("publisher", celery.worker("publish", wiring.settings.workers.publish, name="publish"), tasks.hand_back)


def _drain(name: str, drained: bool, hand_back: Callable[[], tuple[str, ...]]) -> None:
    """What did not end within the grace is handed back; nothing of this process may go on after it."""
    if not drained:
        log(name).info("handed back", orders=" ".join(hand_back()))
        os._exit(0)


def _stop_on_term() -> threading.Event:
    stop = threading.Event()

    def once(number: int, frame: object) -> None:
        """A second signal kills."""
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, once)
    return stop
