"""A whole attempt in a temporary home: real git, real processes, the real sandbox; the ledger's side is plain files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fleet.adapters import fork
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.clock import SystemClock
from fleet.adapters.git import BareRepo
from fleet.adapters.ids import SystemIds
from fleet.adapters.launcher import HOST_SOCKET, LocalLauncher, folder_of
from fleet.adapters.layout import Layout
from fleet.adapters.mirror import Mirrors
from fleet.adapters.sandbox import open_sandbox, procfs, sweep
from fleet.adapters.slots import Slot, Slots
from fleet.core.environment import Prepared
from fleet.core.ports import AttemptChannel
from fleet.core.sandbox import Sandbox, Tier
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, TicketLimits
from fleet.core.view import TicketView
from tests.support.file_channel import FileChannel
from tests.support.tickets import ticket
from tests.support.wait import eventually
from workers import host
from workers.agents import backend_for
from workers.guard import Guard, Post
from workers.loop import Tools

CLOCK = SystemClock()


class NoDependencies:
    """Environments of repositories that need nothing."""

    def prepare(self, git_dir: Path, commit: str) -> Prepared:
        return Prepared("none", (), (), (), Path(sys.executable), "no dependencies")


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make_repo(folder: Path, files: dict[str, bytes]) -> Path:
    """A repository with one commit on main; its files are taken byte for byte."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "attributes").write_text("* -text -filter -ident\n")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def answers(path: Path) -> bool:
    """Whether somebody listens on the socket."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(path))
        except OSError:
            return False
    return True


class Attempts:
    """An attempt host with everything around it. ``close`` ends it and whatever still lives."""

    backend = staticmethod(backend_for)

    def __init__(self, home: Path, source: Path) -> None:
        self.layout = Layout(home, os.geteuid())
        self.layout.make()
        self.source = source
        self.scratch = self.layout.work / "scratch"
        self.scratch.mkdir()
        self.scratch.chmod(0o750)
        if self.layout.as_root:
            os.chown(self.scratch, 0, self.layout.slot_gid())
        self.channel = FileChannel(home / "channel")
        self.artifacts = FolderArtifacts(self.layout.artifacts)
        self.slots = Slots(self.layout)
        self.launcher = LocalLauncher(self.layout, CLOCK)
        self.make_channel: Callable[[], AttemptChannel] = lambda: self.channel
        self.tiers: tuple[Tier, ...] = (Tier.BUBBLEWRAP, Tier.LANDLOCK)
        self.pid = 0

    def tools(self) -> Tools:
        return Tools(
            mirrors=Mirrors(self.layout, lambda repo: (str(self.source), None)),
            environments=NoDependencies(),
            open_sandbox=self.sandbox,
            artifacts=self.artifacts,
            backend=self.backend,
            clock=CLOCK,
        )

    def sandbox(self, slot: Slot) -> Sandbox:
        return open_sandbox(
            allow=self.tiers,
            scratch=self.scratch,
            clock=CLOCK,
            slot_uid=slot.uid if self.layout.as_root else None,
            slot_gid=slot.gid if self.layout.as_root else None,
        )

    def run_attempt(self, ticket_id: str, attempt: int) -> None:
        spool = folder_of(self.layout.attempts, ticket_id, attempt) / "events.spool"
        post = Post("host", "incarnation", SystemIds().hex(16), spool)
        Guard(
            ticket_id,
            attempt,
            channel=self.make_channel(),
            post=post,
            slots=self.slots,
            tools=self.tools(),
            clock=CLOCK,
        ).run()

    def serve(self, run: Callable[[str, int], None] | None = None) -> None:
        """Starts the attempt host in a process of its own."""
        path = self.layout.runtime / HOST_SOCKET

        def child() -> None:
            log = os.open(self.layout.logs / "attempts.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
            host.serve(path, self.layout.attempts, run or self.run_attempt, CLOCK, self.sweep)

        self.pid = fork.fork(child)
        assert eventually(lambda: answers(path))

    def sweep(self) -> None:
        """What the attempt host does when a guard has ended."""
        self.slots.sweep()
        sweep(self.scratch)

    def order(self, agent: str = "command:true", attempt: int = 1, **limits: float) -> Ticket:
        """A ticket that waits for its attempt to begin."""
        one = ticket(agent=agent)
        if limits:
            one = replace(one, limits=TicketLimits(**limits))  # type: ignore[arg-type]
        self.channel.put(TicketView(one, State.STARTING, Reason.GRANTED, since=0.0, attempt=attempt))
        return one

    def finish(self, one: Ticket, attempt: int = 1, seconds: float = 30.0) -> None:
        assert self.launcher.wait(self.launcher.start(one.id, attempt), seconds)

    def store(self) -> BareRepo:
        """A repository with base and what was handed over."""
        repo = BareRepo.init(self.layout.stores / "store.git")
        repo.fetch(self.source, ("+refs/heads/*:refs/heads/*",))
        return repo

    def log(self) -> str:
        path = self.layout.logs / "attempts.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        for live in self.launcher.live():
            self.launcher.kill(live)
        if self.pid:
            os.kill(self.pid, 15)
            os.waitpid(self.pid, 0)


def left(pid: int) -> list[int]:
    """What lives below the attempt host."""
    return [row.pid for row in procfs.descendants(pid)]
