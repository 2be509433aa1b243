"""A real forge, a real ledger and real git around one publisher; the test plays supervisor, gates and agent."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn

from fleet.adapters import keys
from fleet.adapters.acl import Role
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.forge_client import HubClient
from fleet.adapters.git import BareRepo, HttpToken, Person
from fleet.adapters.ids import SystemIds
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import FleetRedis, connect
from fleet.core.codec import decode_event, encode
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import ChangeReady, Envelope, Published, PublishFailed, PublishProblem, Source
from fleet.core.gates import GateKind, GatePlanRecord, GateRecord, Mode, Outcome, TestCounts, VerdictRecord
from fleet.core.outbox import Outstanding
from fleet.core.states import Reason, State
from fleet.core.ticket import Criterion, Ticket, shard_of, text_hash
from fleet.core.view import TicketView
from fleet.forge.app import create_app
from fleet.forge.server import bind
from fleet.forge.settings import ForgeSettings, VerbSeen
from fleet.forge.store import ForgeStore
from fleet.publisher.plan import head_ref
from fleet.publisher.service import Publisher, Remote
from fleet.publisher.tasks import PublisherTasks
from tests.forge_contract.contract import Checked
from tests.support.wait import eventually

REPO = "ann/demo"
KEY = b"k" * 32
TEST = "t.py::test_a_is_clean"
SCOPES = ("contents:write", "issues:write", "pull_requests:write", "statuses:write")
WHO = Person("Fleet", "fleet@localhost")
DIGEST = "c" * 64


def git(cwd: Path, *args: str) -> str:
    """The git of the system, as a person runs it."""
    done = subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class QuickClock(SystemClock):
    """The real clock whose pauses are short; none of these tests is about how long one waits."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.01))


@dataclass
class RunningForge:
    store: ForgeStore
    base: str
    seen: list[VerbSeen] = field(default_factory=list)
    faults: dict[tuple[str, str, str], int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def fault(self, stage: str, method: str, path: str) -> int | None:
        return self.faults.pop((stage, method, path), None)


@contextmanager
def running_forge(root: Path) -> Iterator[RunningForge]:
    listener = bind(0)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    forge = RunningForge(ForgeStore(root, SystemClock(), SystemIds()), base)
    forge.store.ensure_repo(REPO)
    app = create_app(ForgeSettings(forge.store, base, faults=forge.fault, verb_log=forge.seen.append))
    # What GitHub would not understand fails the test, whichever process asked.
    checked = Checked(app, forge.wrong, forge.counts)
    server = uvicorn.Server(uvicorn.Config(checked, log_level="error", lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert eventually(lambda: server.started or not thread.is_alive())
    try:
        yield forge
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()
        forge.store.close()
    assert forge.wrong == [], forge.wrong


class World:
    """One repository with a file, one issue, and everything that a ticket needs until it is published."""

    def __init__(self, root: Path, forge: RunningForge, redis: EmbeddedRedis) -> None:
        self.root = root
        self.forge = forge
        self.server = redis
        self.redis: FleetRedis = connect(redis.ensure(), "admin", redis.password(Role.ADMIN))
        self.ledger = RedisLedger(self.redis)
        self.artifacts = FolderArtifacts(root / "artifacts")
        self.clock = QuickClock()
        self.store = BareRepo.init(root / "store.git")
        for login in ("fleet-bot", "bob"):
            forge.store.set_permission(REPO, login, "write")
        self.token = forge.store.issue_token("fleet-bot", SCOPES, [REPO])
        self.person = forge.store.issue_token("bob", (*SCOPES, "workflows:write"), [REPO])
        self.bob = self.hub(self.person)
        self.base = self._start()
        self.issue = self.bob.create_issue(REPO, "Remove unused imports", "Please.").number

    def hub(self, token: str) -> HubClient:
        return HubClient(f"{self.forge.base}/api/v3", token, self.clock, retries=1)

    def auth(self, token: str = "") -> HttpToken:
        return HttpToken(f"{self.forge.base}/", token or self.token)

    @property
    def url(self) -> str:
        return f"{self.forge.base}/{REPO}.git"

    def publisher(self, token: str = "") -> Publisher:
        remote = Remote(self.url, self.auth(token))
        forge = self.hub(token or self.token)
        return Publisher(forge, self.ledger, self.artifacts, self.clock, lambda _: self.store, lambda _: remote, KEY)

    def tasks(self, host: str = "host") -> PublisherTasks:
        return PublisherTasks(self.ledger, self.publisher(), self.clock, host)

    # --- git --------------------------------------------------------------------------------------------------

    def commit(self, parent: str | None, files: dict[str, str], message: str = "Change") -> str:
        """A commit with exactly ``files`` on top of what ``parent`` has at the top level."""
        entries = {e.path: f"{e.mode} blob {e.blob}\t{e.path}" for e in (self.store.files(parent) if parent else ())}
        for path, text in files.items():
            blob = self.store.call("hash-object", "-w", "--stdin", input=text.encode()).stdout.decode().strip()
            entries[path] = f"100644 blob {blob}\t{path}"
        listing = "".join(f"{line}\n" for line in sorted(entries.values())).encode()
        tree = self.store.call("mktree", input=listing).stdout.decode().strip()
        return self.store.commit_tree(tree, [parent] if parent else [], message, WHO, WHO, 1_700_000_000)

    def push(self, sha: str, branch: str, old: str = "", token: str = "") -> None:
        said = self.store.push(self.url, sha, f"refs/heads/{branch}", old, self.auth(token or self.person))
        assert said.status.value == "ok", said

    def _start(self) -> str:
        sha = self.commit(None, {"a.py": "import os\n", "b.py": "x = 1\n", "README.md": "# Demo\n"}, "Start")
        self.push(sha, "main")
        return sha

    def branch_at(self, branch: str) -> str:
        return self.forge.store.bare(self.forge.store.repo(REPO)).branch(branch) or ""

    # --- the ledger -------------------------------------------------------------------------------------------

    def ticket(self, **changes: object) -> Ticket:
        title, body = "Remove unused imports", "- [ ] `a.py` is clean"
        ticket = Ticket(
            id="demo-1-abcdef01",
            tenant="default",
            repo=REPO,
            number=self.issue,
            generation=1,
            title=title,
            body=body,
            text_hash=text_hash(title, body),
            base="main",
            branch=f"fleet/{self.issue}-remove-unused-imports",
            agent="command:ruff check --fix --select F401 .",
            requested_by="bob",
            accepted_at=1_700_000_000.0,
            criteria=(Criterion("`a.py` is clean"),),
        )
        return replace(ticket, **changes)  # type: ignore[arg-type]

    def gated(
        self, ticket: Ticket | None = None, head: str = "", attempt: int = 1, round: int = 1, base: str = ""
    ) -> TicketView:
        """A ticket whose gates passed on ``head`` (by default a one-line change of a.py), with all its records."""
        ticket = ticket or self.ticket()
        base = base or self.base
        head = head or self.commit(base, {"a.py": ""}, f"Attempt {attempt}")
        self.store.update_ref(head_ref(ticket.id, attempt), head)
        names = ("policy", "lint", "tests")
        plan = GatePlanRecord(ticket.id, attempt, round, head, base, DIGEST, names, names)
        self.ledger.put_gate_plan(plan)
        for record in self.records(ticket, head, attempt, base):
            self.ledger.put_gate_record(record)
        verdict = VerdictRecord(ticket.id, attempt, round, head, base, DIGEST, True, "3 gates passed")
        self.ledger.put_verdict(verdict)
        change = ChangeReady("bundle", head, "t" * 40, base, 1, 0, 1, ("build/x.o",))
        view = TicketView(
            ticket,
            State.PUBLISHING,
            Reason.GATES_PASSED,
            since=0.0,
            attempt=attempt,
            round=round,
            head=head,
            base_sha=base,
            change=change,
            tier="bubblewrap",
        )
        self.keep(view)
        return view

    def records(self, ticket: Ticket, head: str, attempt: int, base: str = "") -> tuple[GateRecord, ...]:
        def one(name: str, kind: GateKind, outcome: Outcome, **more: object) -> GateRecord:
            about = (ticket.id, attempt, head, base or self.base, DIGEST)
            return GateRecord(*about, name, kind, Mode.NO_REGRESSION, outcome, 1.5, f"{name} said so", **more)  # type: ignore[arg-type]

        return (
            one("policy", GateKind.POLICY, Outcome.PASSED),
            one("lint", GateKind.LINT, Outcome.ALREADY_RED, already_red=293, digest="sha256:" + "d" * 64),
            one(
                "tests",
                GateKind.TESTS,
                Outcome.PASSED,
                tests=TestCounts(10, 9, 0, 1),
                reproduced=(TEST,),
            ),
        )

    def keep(self, view: TicketView) -> None:
        """Stores the view and its PUBLISH order as the supervisor would."""
        shard = shard_of(view.id)
        self.redis.hset(keys.of(shard, "view"), view.id, encode(view))
        self.redis.hsetnx(keys.META, "incarnation", "one")
        self.order(Effect(EffectKind.PUBLISH, view.id, view.attempt, view.round, view.turn))

    def order(self, effect: Effect) -> None:
        self.redis.hset(keys.of(shard_of(effect.ticket), "outbox"), effect.id, encode(Outstanding(effect, 0.0)))

    def told(self, ticket: str = "demo-1-abcdef01") -> list[Envelope]:
        """What the publisher said on its stream, oldest first."""
        entries: Any = self.redis.xrange(keys.inbound(ticket, Source.PUBLISHER))
        return [decode_event(fields[b"e"], Source.PUBLISHER) for _, fields in entries]

    def endings(self) -> list[Published | PublishFailed]:
        return [event.data for event in self.told() if isinstance(event.data, Published | PublishFailed)]

    def pulls(self) -> list[tuple[int, str, str]]:
        """(number, state, head) of every pull request that the forge has."""
        with self.forge.store.read() as tx:
            rows = tx.rows.all("SELECT i.number, i.state, p.head_sha FROM pulls p JOIN issues i ON i.id = p.issue_id")
        return [(row["number"], row["state"], row["head_sha"]) for row in rows]


def published(answer: Published | PublishFailed) -> Published:
    assert isinstance(answer, Published), answer
    return answer


def problem(answer: Published | PublishFailed) -> PublishProblem:
    assert isinstance(answer, PublishFailed), answer
    return answer.problem
