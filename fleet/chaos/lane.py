"""One fleet of its own in a temporary home: tickets go in together, and what became of them is read from disk."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from fleet.adapters.acl import Role
from fleet.adapters.git import BareRepo
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.process import run
from fleet.adapters.redis_client import connect
from fleet.adapters.slots import remove_tree
from fleet.chaos.proxy import Proxy, to_port
from fleet.chaos.verdict import End
from fleet.core.events import PublishFailed, PublishProblem
from fleet.core.view import TicketView
from fleet.forge import pulls
from fleet.intake.decide import Request
from fleet.intake.text import clean
from fleet.local.client import Client
from fleet.local.home import Home
from fleet.local.ports import PROXY
from fleet.local.promise import OPENED, accept_opened
from fleet.local.start import CHECKOUT

DISK = "/var/tmp"
# Short patience, so that what takes minutes in earnest takes seconds here; heartbeats come every 5 s.
SETTINGS = {
    "FLEET_SUPERVISION_LOST_AFTER": "8",
    "FLEET_SUPERVISION_CLAIM_WITHIN": "20",
    "FLEET_SUPERVISION_MODEL_SILENCE": "20",
    "FLEET_SUPERVISION_BETWEEN_RUNGS": "10",
    "FLEET_SUPERVISION_BACKOFF_FIRST": "1",
    "FLEET_SUPERVISION_BACKOFF_MOST": "4",
    "FLEET_CAPS_TICKETS": "32",
    "FLEET_CAPS_PER_REPO": "32",
    "FLEET_CAPS_PER_TENANT": "32",
    "FLEET_CAPS_OPEN_PULL_REQUESTS": "100000",
    "FLEET_WORKERS_AGENTS": "32",
    # Many at a time: a service that dies takes all of them along.
    "FLEET_WORKERS_GATES": "12",
    "FLEET_WORKERS_PUBLISH": "12",
    # Should this command be killed, what it left ends itself.
    "FLEET_HOME_IDLE_MINUTES": "5",
    "FLEET_BUDGET_DAY_USD": "1000000",
}
_GATE = 'version = 1\n\n[gates.notes]\ncommand = ["sh", "-c", "test -s notes/base.txt"]\nkind = "lint"\n'
_FILES = {".fleet.toml": _GATE, "notes/base.txt": "a note\n"}
# It lasts long enough for a guard and a loop to be met alive.
_WORK = "command:sh -c 'sleep 0.7; echo {place} >notes/{place}.txt'"
_OURS = ("FLEET_REDIS_URL", "FLEET_BROKER_URL", "FLEET_HOME_FORGE_PORT", "FLEET_CRASH_AT")
_PERSON = ("-c", "user.name=Chaos", "-c", "user.email=chaos@localhost", "-c", "commit.gpgSign=false")
# The same commit in every round: the same base gives the same trees.
_DATES = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
_GIT_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
_UP_S = 120.0


class Lane:
    """``folder`` is the lane's own. ``env``: of the command. ``supervisors``: how many share the work."""

    def __init__(self, folder: Path, env: Mapping[str, str], supervisors: int) -> None:
        self.folder = folder
        self.choice = folder / "crash-at"
        self._script = folder / "script.toml"
        kept = {name: value for name, value in env.items() if name not in _OURS}
        self.forge = Proxy(self._to_forge)
        own = {"FLEET_HOME": str(folder / "home"), "FLEET_CRASH_AT": f"@{self.choice}", PROXY: str(self.forge.port)}
        own["FLEET_WORKERS_SUPERVISORS"] = str(supervisors)
        self.home = Home({**kept, **SETTINGS, **own, "PYTHONPATH": kept.get("PYTHONPATH", CHECKOUT)})
        self.client = Client(self.home, lambda _: None)
        self._rounds = 0

    def up(self) -> None:
        """Starts the fleet, or finds it running. Raises ProgramFailed with what it said."""
        argv = (sys.executable, "-P", "-m", "fleet.cli", "up", "--json")
        run(argv, cwd="/", env=self.home.env, timeout=_UP_S)

    def open(self) -> None:
        self._script.write_text(files("fleet.chaos").joinpath("script.toml").read_text(encoding="utf-8"))
        self._script.chmod(0o644)
        self.up()
        self.client.attach()

    def close(self, keep: bool = False) -> None:
        """Stops everything of the lane; its folders go, unless they are to be looked at."""
        try:
            self.client.down()
        finally:
            self.forge.close()
            if not keep:
                for path in (self.home.layout.work, self.home.layout.runtime, self.folder):
                    remove_tree(path)

    def _to_forge(self) -> socket.socket:
        """Its port is known only once it was started."""
        return to_port(int(json.loads((self.home.layout.home / "port.json").read_text())))()

    def ledger(self, at: Path | None = None) -> RedisLedger:
        """The record, to look at; past a proxy by the real socket ``at``."""
        wiring = self.client.wiring
        address = replace(wiring.address, socket=at or wiring.address.socket)
        role = Role.PEOPLE
        return RedisLedger(connect(address, role.value, wiring.password(role), socket_timeout=3.0, retries=0))

    def accept(self, tickets: int, model: bool) -> tuple[str, list[str]]:
        """(repository, ids) of tickets on a repository of their own; their places are 0, 1, 2 …"""
        self._rounds += 1
        client = self.client
        path = repository(self.folder / f"round-{self._rounds}")
        repo, base = client.import_repository(path, "main")
        found = []
        for place in range(tickets):
            text = clean(f"Note {place}", "One more note.")
            issue = client.open_issue(repo, text.title, text.body, OPENED)
            agent = f"rehearsal:{self._script}" if model else _WORK.format(place=place)
            request = Request(
                repo,
                issue.number,
                text,
                base,
                agent,
                "chaos",
                limits=client.settings.limits,
                local_path=str(path),
                allow_no_tests=True,
            )
            found.append(accept_opened(client, request).ticket.id)
        return repo, found

    def ends(self, repo: str, tickets: Sequence[str]) -> tuple[End, ...]:
        """What became of them, from the ledger and from the forge's own disk."""
        ledger = self.ledger()
        with self._at_forge(repo) as (bare, opened):
            found = []
            for place, ticket in enumerate(tickets):
                view = ledger.view(ticket)
                if view is None:
                    continue
                log = [event for _, event in ledger.log(ticket)]
                stale = sum(
                    isinstance(event.data, PublishFailed) and event.data.problem is PublishProblem.MOVED
                    for event in log
                )
                found.append(_end(place, view, bare, opened, stale))
            return tuple(found)

    @contextmanager
    def _at_forge(self, repo: str) -> Iterator[tuple[BareRepo, list[tuple[int, str]]]]:
        """Its bare repository, and (number, branch) of every pull request that was ever opened there."""
        forge = self.client.wiring.forge_store()
        try:
            row = forge.repo(repo)
            with forge.read() as tx:
                opened = [(int(pull["number"]), str(pull["head_ref"])) for pull in pulls.listing(tx, row, "all")]
            yield BareRepo(forge.bare(row).path), opened
        finally:
            forge.close()


def _end(place: int, view: TicketView, bare: BareRepo, opened: Sequence[tuple[int, str]], stale: int) -> End:
    mine = [number for number, branch in opened if branch == view.ticket.branch]
    pull, heads, tree = view.pull_request, set(), ""
    if pull is not None:
        heads = {pull.head_sha, bare.rev(f"refs/heads/{view.ticket.branch}") or "no branch"}
        if pull.local_ref:
            heads.add(BareRepo(Path(view.ticket.local_path, ".git")).rev(pull.local_ref) or "no ref at the person's")
        heads |= set() if [pull.number] == mine else {"another pull request"}
        tree = bare.tree(pull.head_sha) if bare.rev(pull.head_sha) else "not at the forge"
    detail = f"{view.reason.value}: {view.detail}"
    seconds = view.since - view.ticket.accepted_at
    return End(place, view.state.value, tree, len(mine), frozenset(heads), seconds, view.attempt, stale, detail)


@contextmanager
def lane(env: Mapping[str, str], supervisors: int = 1, keep: bool = False) -> Iterator[Lane]:
    """A running fleet in an empty home on a disk (/tmp may be memory); ``keep``: its folder stays."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-chaos-", dir=DISK)).resolve()
    folder.chmod(0o755)
    made = Lane(folder, env, supervisors)
    try:
        made.open()
        yield made
    finally:
        made.close(keep)


def repository(path: Path) -> Path:
    """A git repository of one commit, always the same."""
    for name, text in _FILES.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "A note")):
        run(("git", *_PERSON, *words), cwd=path, env={**_GIT_ENV, **_DATES}, timeout=60)
    return path
