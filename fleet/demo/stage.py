"""Putting the demo on: a home of its own, the project in git, six tickets at once, and one kill."""

from __future__ import annotations

import os
import signal
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from fleet.adapters.launcher import LocalLauncher
from fleet.adapters.process import run
from fleet.adapters.slots import remove_tree
from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, ToolStarted
from fleet.core.view import TicketView
from fleet.demo.cast import CAST, Part
from fleet.intake.decide import Request
from fleet.intake.text import clean
from fleet.local.client import Client
from fleet.local.home import Home
from fleet.local.promise import OPENED, accept_opened

# Short patience, so that what takes minutes in earnest takes seconds here.
SETTINGS = {
    "FLEET_SUPERVISION_MODEL_SILENCE": "6",
    "FLEET_SUPERVISION_SILENCE": "45",
    "FLEET_SUPERVISION_BETWEEN_RUNGS": "20",
    "FLEET_SUPERVISION_LOST_AFTER": "12",
    "FLEET_SUPERVISION_BACKOFF_FIRST": "1",
    "FLEET_SUPERVISION_BACKOFF_MOST": "4",
    "FLEET_CAPS_TICKETS": "6",
    "FLEET_CAPS_PER_REPO": "6",
    "FLEET_CAPS_PER_TENANT": "6",
    "FLEET_CAPS_OPEN_PULL_REQUESTS": "20",
    "FLEET_WORKERS_AGENTS": "6",
    "FLEET_AGENTS_DEFAULT": "rehearsal:demo-clean",
}
LONGEST_S = 300.0
LIVE_LONGEST_S = 5400.0  # three attempts of half an hour
_POLL_S = 0.2
_OURS = "FLEET_SUPERVISION_", "FLEET_CAPS_", "FLEET_WORKERS_", "FLEET_AGENTS_", "FLEET_LIMITS_", "FLEET_REDIS_URL"
_GIT = ("git", "-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgSign=false")
_GIT_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


def demo_home(env: Mapping[str, str], live: bool = False) -> Home:
    """Below the person's own home, so that neither sees the other's tickets.

    ``live``: a real model may think for minutes, so it gets the patience of every day.
    """
    own = Home(env)
    kept = {name: value for name, value in env.items() if not name.startswith(_OURS)}
    return Home({**kept, **({} if live else SETTINGS), "FLEET_HOME": str(own.layout.home / "demo")})


def fresh(home: Home, say: Callable[[str], None]) -> Client:
    """A running fleet in an empty demo home; an earlier demo is removed."""
    if home.layout.home.exists():
        say("removing the last demo")
        Client(home, say).down()
        for folder in (home.layout.work, home.layout.home, home.layout.runtime):
            remove_tree(folder)
    client = Client(home, say)
    client.attach()
    return client


def project(folder: Path) -> Path:
    """The bundled project as a git repository with one commit on main."""
    data = tomllib.loads(files("fleet.demo").joinpath("project.toml").read_text(encoding="utf-8"))
    folder.mkdir(parents=True)
    for name, text in data["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))
    for words in (("init", "--quiet", "--initial-branch=main"), ("add", "--all"), ("commit", "--quiet", "-m", "tally")):
        run((*_GIT, *words), cwd=folder, env=_GIT_ENV, timeout=60)
    return folder


@dataclass(slots=True)
class Actor:
    """One ticket on stage: its part, and what is known of it."""

    part: Part
    ticket: str
    cursor: str = "0"
    log: list[Envelope] = field(default_factory=list)
    view: TicketView | None = None
    killed: int = 0

    @property
    def rests(self) -> bool:
        return self.view is not None and not self.view.state.active

    @property
    def kept(self) -> bool:
        """Whether the record shows what was promised."""
        return self.view is not None and self.part.kept(self.view, self.log) and bool(self.killed) == self.part.killed


class Stage:
    """``agents`` replaces the scripted ones, for a demo with a real model."""

    def __init__(self, client: Client, parts: tuple[Part, ...] = CAST, longest: float = LONGEST_S) -> None:
        self._client = client
        self._longest = longest
        self._launcher = LocalLauncher(client.home.layout, client.wiring.clock)
        self.folder = client.home.layout.home / "project" / "tally"
        self._parts = parts
        self.roles: list[Actor] = []

    def open(self) -> None:
        """Opens an issue for each part and has it accepted."""
        client = self._client
        repo, base = client.import_repository(project(self.folder), "main")
        for part in self._parts:
            text = clean(part.title, part.body)
            issue = client.open_issue(repo, text.title, text.body, OPENED)
            request = Request(
                repo, issue.number, text, base, part.agent, "demo", limits=part.limits, local_path=str(self.folder)
            )
            self.roles.append(Actor(part, accept_opened(client, request).ticket.id))

    def play(self) -> Iterator[tuple[Actor, Envelope | None]]:
        """What happens, until every ticket rests; None for a moment in which nothing did. Raises TemporaryError."""
        clock, ledger = self._client.wiring.clock, self._client.ledger()
        until = clock.monotonic() + self._longest
        while not all(role.rests for role in self.roles):
            if clock.monotonic() > until:
                raise TemporaryError(f"The demo did not end within {self._longest:.0f} s.", "See `fleet doctor`.")
            for role in self.roles:
                for cursor, event in ledger.log(role.ticket, role.cursor):
                    role.cursor = cursor
                    role.log.append(event)
                    yield role, event
                role.view = ledger.view(role.ticket)
                self._kill(role)
            yield self.roles[0], None
            clock.sleep(_POLL_S)
        for role in self.roles:
            role.log += [event for _, event in ledger.log(role.ticket, role.cursor)]

    def _kill(self, role: Actor) -> None:
        """Signal 9 for the guard of the first attempt, once its command runs."""
        working = any(isinstance(event.data, ToolStarted) for event in role.log)
        if not role.part.killed or role.killed or not working:
            return
        live = self._launcher.find(role.ticket, 1)
        if live is not None:
            with suppress(ProcessLookupError):
                os.kill(live.pid, signal.SIGKILL)
                role.killed = live.pid
