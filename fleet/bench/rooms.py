"""Private fleet homes for measuring: made, used and removed without touching the person's own."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.process import run
from fleet.core.errors import InternalError
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from fleet.intake.decide import Request
from fleet.intake.service import IntakeService
from fleet.intake.text import clean
from fleet.local.client import Client
from fleet.local.home import Home

DISK = "/var/tmp"
POLL_S = 0.02
LONGEST_S = 600.0
# High enough that no figure is about waiting for a place.
CAPS = {"FLEET_CAPS_TICKETS": "48", "FLEET_CAPS_PER_REPO": "48", "FLEET_CAPS_PER_TENANT": "48"}
CAPS |= {"FLEET_CAPS_OPEN_PULL_REQUESTS": "100000"}
_PERSON = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgSign=false")
_GIT_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measure gets. ``env``: of the command. ``quick``: few samples, for trying it out."""

    env: Mapping[str, str]
    say: Callable[[str], None]
    quick: bool = False
    clock: SystemClock = field(default_factory=SystemClock)

    def few(self, many: int, quick: int) -> int:
        return quick if self.quick else many

    def until(self, condition: Callable[[], bool], what: str, seconds: float = LONGEST_S) -> None:
        """Raises InternalError when ``condition`` does not come true in time."""
        end = self.clock.monotonic() + seconds
        while not condition():
            if self.clock.monotonic() > end:
                raise InternalError(f"After {seconds:.0f} s {what}.")
            self.clock.sleep(POLL_S)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on a disk (/tmp may be memory), removed afterwards. Others may enter, as they may a real checkout."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir=DISK) as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield path


@contextmanager
def home(bench: Bench, **settings: str) -> Iterator[Home]:
    """An empty home with raised caps; whatever runs in it is stopped and removed in the end."""
    with folder() as place:
        env = {name: value for name, value in bench.env.items() if name not in ("FLEET_REDIS_URL", "FLEET_BROKER_URL")}
        made = Home({**env, **CAPS, **settings, "FLEET_HOME": str(place / "home")})
        try:
            yield made
        finally:
            if made.layout.home.exists():
                Client(made, lambda _: None).down()
            for path in (made.layout.work, made.layout.runtime):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def fleet(bench: Bench, **settings: str) -> Iterator[Client]:
    """A running fleet in a home of its own."""
    with home(bench, **settings) as made:
        client = Client(made, lambda _: None)
        client.attach()
        yield client


def git(path: Path, *words: str) -> str:
    done = run(("git", *_PERSON, "-C", str(path), *words), cwd=path, env=_GIT_ENV, timeout=LONGEST_S)
    return done.stdout.decode().strip()


def repository(path: Path, files: Mapping[str, str]) -> Path:
    """A git repository with one commit of ``files`` on the branch ``main``."""
    for name, text in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    git(path, "init", "-q", "-b", "main")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "All of it")
    return path


def import_into(client: Client, path: Path) -> str:
    """The repository at the home's forge; answers owner/name."""
    return client.import_repository(path, "main")[0]


@functools.cache
def _intake(client: Client) -> RedisLedger:
    return client.wiring.ledger(Role.INTAKE)


def accept(client: Client, repo: str, number: int, agent: str, path: Path | None = None) -> Ticket:
    """One more ticket, on disk when this returns, as ``fleet run`` has it accepted."""
    request = Request(
        repo=repo,
        number=number,
        text=clean(f"Ticket {number}", "Measure it."),
        base="main",
        agent=agent,
        requested_by="bench",
        limits=client.settings.limits,
        local_path=str(path or ""),
        allow_no_tests=True,
    )
    return IntakeService(_intake(client), client.wiring.clock).accept(request).ticket


def issue(client: Client, repo: str, title: str) -> int:
    """An issue at the home's forge; answers its number."""
    return client.wiring.forge_client("person").create_issue(repo, title, "Measure it.", ("fleet",)).number


def view_of(client: Client, ticket: Ticket) -> TicketView | None:
    return client.ledger().view(ticket.id)


def named(views: Sequence[TicketView]) -> str:
    """Tickets by state, for a message when something went wrong."""
    return ", ".join(sorted(f"{view.id} {view.state.value} ({view.detail[:80]})" for view in views)) or "none"
