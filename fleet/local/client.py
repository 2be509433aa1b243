"""How a command finds the fleet of its home, or starts it: attach, ask, follow."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

from fleet.adapters.acl import Role
from fleet.adapters.git import BareRepo, HttpToken
from fleet.adapters.ledger import RedisLedger
from fleet.core.codec import encode
from fleet.core.errors import ConflictError, StoppedError, TemporaryError, UsageError
from fleet.core.events import Envelope, EventData, Source
from fleet.core.forge import Issue
from fleet.core.settings import Settings
from fleet.core.ticket import TicketLimits
from fleet.core.view import TicketView
from fleet.local import keys
from fleet.local.forges import is_local
from fleet.local.home import Home, HostState, version
from fleet.local.start import start_host
from fleet.local.wiring import REPO_FILE, Wiring

START_WITHIN = 60.0
POLL = 0.05


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `fleet down` found at work: attempts that were asked to hand back, and (ticket, state) of what goes on."""

    handed_back: tuple[tuple[str, int], ...]
    goes_on: tuple[tuple[str, str], ...]


class Client:
    """A command's end of a running fleet. ``say`` is told in short sentences what is being waited for.

    ``settings``: the home's own unless given; stopping a fleet must work when they have become unreadable.
    """

    def __init__(self, home: Home, say: Callable[[str], None], settings: Settings | None = None) -> None:
        self.home = home
        self.settings: Settings = home.settings() if settings is None else settings
        self._say = say
        self._presence: int | None = None
        self.wiring = Wiring(home, self.settings)

    # --- the process tree ------------------------------------------------------------------------------------------
    def attach(self, starting: bool = True) -> HostState:
        """Starts the host unless it runs; returns when the forge and the store answer.

        Raises UsageError when another version runs, or when the host says why it cannot start.
        """
        self.home.make()
        keys.keep(self.home)
        self._be_present()
        if starting:
            self.home.note_stopped(False)
        if not self.home.host_runs():
            self._say("starting the fleet")
            self._start()
        state = self._ready()
        if state.version != version():
            raise UsageError(
                f"Version {state.version} of the fleet is running in this home, and this is {version()}.",
                "Stop it with `fleet down`, then try again.",
            )
        self._warn_about_settings(state)
        self.wiring = Wiring(self.home, self.settings, state.forge_url)
        return state

    def attach_if_running(self) -> HostState | None:
        """For commands that only look: does not start anything."""
        if not self.home.host_runs():
            return None
        return self.attach(starting=False)

    def ensure_running(self) -> None:
        """For long waits: a host that was killed is started again; the ledger has everything.

        Raises StoppedError when a person stopped it: then nothing may bring it back but a person.
        """
        if not self.home.host_runs():
            if self.home.stopped:
                raise StoppedError("The fleet was stopped.", "Tickets go on with the next `fleet up`.")
            self._say("the fleet's host is gone; starting it again")
            self._start()
            self._ready()

    def down(self) -> Stopped | None:
        """Stops the host, the attempts and the store; None when nothing ran. Attempts hand back first."""
        from fleet.adapters.launcher import LocalLauncher  # noqa: PLC0415 - only this command needs these
        from fleet.local import flower  # noqa: PLC0415

        launcher = LocalLauncher(self.home.layout, self.wiring.clock)
        attempts = launcher.live()
        ran = bool(attempts) or self.home.host_runs()
        state = self.home.host_state()
        if ran and state is not None and state.by_hand:
            raise UsageError(
                "The services of this home were started one by one.", "Stop them where they were started (Ctrl-C)."
            )
        if self.home.layout.runtime.exists():
            self.home.note_stopped(True)
        if state is not None and self.home.host_runs():
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGTERM)
            self._wait(lambda: not self.home.host_runs(), 60.0, "the host does not stop")
        for live in launcher.live():
            launcher.kill(live)
        waiting = self._unfinished() if ran else ()
        ran = flower.stop(self.wiring) or ran
        if not self.home.redis_url and self.wiring.embedded.running():
            ran = True
            self.wiring.embedded.stop()
        self.home.forget_host_state()
        handed_back = tuple((one.ticket, one.attempt) for one in attempts)
        return Stopped(handed_back, waiting) if ran else None

    def _unfinished(self) -> tuple[tuple[str, str], ...]:
        """(ticket, state) of what the fleet would go on with; empty when the store does not answer any more."""
        with suppress(TemporaryError):
            return tuple((view.id, view.state.value) for view in self.ledger().views() if view.state.active)
        return ()

    def kill(self) -> None:
        """Kills the host and every attempt at once; the ledger has what the next command needs to go on."""
        from fleet.adapters.launcher import LocalLauncher  # noqa: PLC0415

        state = self.home.host_state()
        if state is not None and self.home.host_runs() and not state.by_hand:
            self.home.note_stopped(True)
            os.kill(state.pid, signal.SIGKILL)
        launcher = LocalLauncher(self.home.layout, self.wiring.clock)
        for live in launcher.live():
            os.kill(live.pid, signal.SIGKILL)

    def _start(self) -> None:
        self.home.check_space()
        size = self.home.host_log.stat().st_size if self.home.host_log.exists() else 0
        self.home.forget_host_state()
        pid = start_host(self.home)
        try:
            self._wait(lambda: self._has_come_up(pid), START_WITHIN, "the host does not come up")
        except TemporaryError as error:
            said = self.home.host_log.read_text(errors="replace")[size:].strip().splitlines()
            raise UsageError(said[-1] if said else str(error), f"See {self.home.host_log}.") from error

    def _has_come_up(self, pid: int) -> bool:
        """Raises TemporaryError when the process ended first, unless it left the place to another one."""
        ended = False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            ended = True
        if self.home.host_state() is not None:
            return True
        if ended and not self.home.host_runs():
            raise TemporaryError("The fleet's host ended while it started.")
        return False

    def _ready(self) -> HostState:
        state: list[HostState] = []

        def answers() -> bool:
            found = self.home.host_state()
            if found is None or not (self.home.layout.runtime / "forge.url").exists():
                return False
            state[:] = [found]
            return True

        self._wait(answers, START_WITHIN, "the local forge does not answer")
        return state[0]

    def _wait(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        clock = self.wiring.clock
        until = clock.monotonic() + seconds
        while not condition():
            if clock.monotonic() > until:
                raise TemporaryError(f"After {seconds:.0f} s {otherwise}.", f"See {self.home.layout.logs}.")
            clock.sleep(POLL)

    def _be_present(self) -> None:
        """A shared lock that tells the host that somebody is here; the kernel drops it when this process ends."""
        if self._presence is None:
            self._presence = os.open(self.home.clients_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._presence, fcntl.LOCK_SH)

    def _warn_about_settings(self, state: HostState) -> None:
        mine = asdict(self.settings)
        different = [
            f"{group}.{key}"
            for group, values in mine.items()
            for key, value in values.items()
            if _plain(state.settings.get(group, {}).get(key)) != _plain(value)
        ]
        if different:
            self._say(f"the running fleet was started with other settings ({', '.join(different)}); theirs hold")

    def flower(self) -> str:
        """Starts Flower or finds it; answers its link."""
        from fleet.local import flower  # noqa: PLC0415

        return flower.start(self.wiring)

    def services(self) -> dict[str, bool]:
        """Whether each service of the host lives."""
        from fleet.local.services import NAMES  # noqa: PLC0415

        alive = self.home.service_pids()
        return {name: name in alive for name in dict.fromkeys((*NAMES, *alive))}

    # --- asking ----------------------------------------------------------------------------------------------------
    def ledger(self) -> RedisLedger:
        return self.wiring.ledger(Role.PEOPLE)

    def find(self, name: str) -> TicketView:
        """A ticket by id, by a beginning of its id, or by number. Raises UsageError when it is none or several."""
        views = list(self.ledger().views())
        exact = [view for view in views if view.id == name]
        wanted = name.lstrip("#")
        found = exact or [view for view in views if view.id.startswith(name) or str(view.ticket.number) == wanted]
        if len(found) == 1:
            return found[0]
        if not found:
            near = get_close_matches(name, [view.id for view in views], 1, 0.6)
            hint = f"Did you mean {near[0]}?" if near else "See them with `fleet ls --all`."
            raise UsageError(f"There is no ticket {name}.", hint)
        raise UsageError(f"{name} could be {', '.join(sorted(view.id for view in found)[:5])}.", "Give more of the id.")

    def tell(self, view: TicketView, data: EventData) -> None:
        """Sends a person's word, on disk before this returns."""
        now = self.wiring.clock.now()
        event = Envelope(view.ticket.tenant, view.id, 0, 0, now, data, Source.PEOPLE)
        self.ledger().send(Source.PEOPLE, [event], durable=True)

    def page(self, url: str) -> str:
        """The link, with the token that the pages ask for where it is one of the local forge's."""
        local = url.startswith(f"{self.wiring.forge_url}/") or url == self.wiring.forge_url
        return f"{url}?token={self.wiring.tokens()['person']}" if local else url

    def bring_home(self, view: TicketView) -> tuple[str, ...]:
        """For the copy of a repository of GitHub: the lines that say how the result gets there."""
        origin, pull = self.home.origin_of(view.ticket.repo), view.pull_request
        if not origin or pull is None:
            return ()
        ticket, url = view.ticket, f"{self.wiring.forges.web_url}/{origin}"
        path = self._bare(ticket.repo).path
        return (
            f"bring it home git -C {shlex.quote(str(path))} push {url}.git {pull.head_sha}:refs/heads/{ticket.branch}",
            f"then open     {url}/compare/{ticket.base}...{ticket.branch}?expand=1",
        )

    def open_issue(self, repo: str, title: str, body: str, labels: Sequence[str]) -> Issue:
        """Opens an issue at the local forge as the person of this home."""
        from fleet.adapters.forge_issue import open_issue  # noqa: PLC0415

        wiring = self.wiring
        base = f"{wiring.forge_url}/api/v3"
        return open_issue(base, wiring.tokens()["person"], wiring.clock, repo, title, body, labels)

    def limits_of(self, repo: str, branch: str) -> TicketLimits:
        """The operator's limits, tightened by ``[limits]`` of the base branch's .fleet.toml.

        Raises SettingsError naming the line of a limit that is looser than the operator's.
        """
        return self.wiring.limits_in(repo, self._bare(repo), branch)

    def agents_of(self, repo: str, branch: str, agent: str) -> tuple[str, ...]:
        """``agent`` and who takes over from it there. Raises SettingsError for what the operator did not name."""
        if not self.settings.agents.route:
            return (agent,)  # the repository has nobody to choose among
        text = self._bare(repo).read(f"refs/heads/{branch}", REPO_FILE, 1 << 20)
        return self.wiring.agents_from(text, branch, agent)

    def _bare(self, repo: str) -> BareRepo:
        """Where the branches of owner/name can be read: the local forge's own repository, or a fresh mirror."""
        if not is_local(repo):
            return self.wiring.mirrors().fetch(repo)
        from fleet.forge.store import ForgeStore  # noqa: PLC0415 - commands that only look do not need the forge

        forge: ForgeStore = self.wiring.forge_store()
        try:
            return BareRepo(forge.bare(forge.repo(repo)).path)
        finally:
            forge.close()

    def import_repository(self, path: Path, branch: str, force: bool = False) -> tuple[str, str]:
        """Brings a branch of a person's checkout into the local forge; answers (owner/name, branch).

        Raises UsageError when there is no such branch, or when forge and checkout went apart, unless ``force``.
        """
        from fleet.forge.importing import import_branch  # noqa: PLC0415
        from fleet.local.wiring import BOT  # noqa: PLC0415

        repo = self.home.repo_name(path, self.wiring.ids)
        forge = self.wiring.forge_store()
        try:
            self.wiring.tokens()
            forge.ensure_repo(repo, branch or "main")
            forge.set_permission(repo, BOT, "write")
            import_branch(forge, repo, path, branch or "HEAD", force)
            branch = branch or forge.repo(repo).default_branch
        except ConflictError as error:
            raise UsageError(error.message, "Pull them, or say --reset-base to let your branch replace it.") from error
        finally:
            forge.close()
        return repo, branch

    def import_url(self, url: str, branch: str) -> Path:
        """A bare copy of a repository that lies behind a URL, kept in the home; answers its path.

        GitHub's own address gets GitHub's token, when there is one, and nobody else does.
        """
        name = "".join(c if c.isalnum() or c in "._-" else "-" for c in url.rstrip("/").rsplit("/", 1)[-1])
        # Two owners may have a repository of one name.
        place = self.home.layout.home / "imports" / hashlib.sha256(url.encode()).hexdigest()[:8]
        copy = BareRepo.init(place / f"{name.removesuffix('.git') or 'repo'}.git")
        wanted = branch or "*"
        forges = self.wiring.forges
        token = forges.token("read") if url.startswith(f"{forges.web_url}/") else ""
        auth = HttpToken(f"{forges.web_url}/", token) if token else None
        copy.fetch(url, (f"+refs/heads/{wanted}:refs/heads/{wanted}",), auth)
        return copy.path


def _plain(value: object) -> object:
    return encode(value)


def follow(
    client: Client, ticket: str, cursor: str = "0", block_ms: int = 1000
) -> Iterator[tuple[str, Envelope | None]]:
    """The ticket's log as it grows; None each time nothing came for a while. Outages of the store are waited out.

    Raises StoppedError when a person stopped the fleet.
    """
    ledger = client.ledger()
    while True:
        try:
            entries = ledger.log(ticket, cursor, block_ms)
        except TemporaryError:
            client.ensure_running()
            client.wiring.clock.sleep(0.5)
            yield cursor, None
            continue
        if not entries:
            client.ensure_running()
            yield cursor, None
        for at, event in entries:
            cursor = at
            yield cursor, event
