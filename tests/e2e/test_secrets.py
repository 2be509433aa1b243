"""A model that hunts for secrets and carries all that it finds into its change; then every place is searched (I7)."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters.acl import Role
from fleet.adapters.redis_client import FleetRedis, connect, parse_address
from fleet.core.spend import attempt_key
from tests.e2e.kit import Done, Fleet, fleet_home, read, repository
from tests.support.canary import Scanner
from tests.support.provider import Provider, provider
from tests.support.wait import eventually

pytestmark = pytest.mark.needs("bwrap")
PLANTED = {
    "ANTHROPIC_API_KEY": "sk-ant-api03-canary+model/Zq4w_key~1-aaaa",
    "OPENAI_API_KEY": "sk-proj-canary+model/Rt7y_key~2-bbbb",
    "GITHUB_TOKEN": "ghp_canaryCANARYcanaryCANARYcanary0123",
    "AWS_SECRET_ACCESS_KEY": "canary/of+somebody/elses~0123456789",
}
# Everything within reach, into a file that becomes part of the change, and onto the screen.
HUNT = """\
( env; cat /proc/*/environ /proc/*/cmdline /proc/*/maps; cat .git/config; git config --list --show-origin;
  ls -laR "$HOME" /root /home /run /var/tmp; find / -path /proc -prune -o -path /sys -prune -o -path /usr -prune \
    -o -type s -print -o -newer . -type f -size -64k -print -exec cat {} + ;
  cat @HOME@/secrets/* @HOME@/redis/acl.json @HOME@/forge/forge.db @HOME@/logs/*; ) > loot 2>/dev/null
head -c 300000 loot | base64 > notes.txt; head -c 9000 loot; rm loot; echo hunted > hunting
while [ ! -e go ]; do read -t 0.1 x < /dev/zero; done; rm -f go hunting"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def script(folder: Path, home: Path) -> Path:
    file = folder / "hunt.toml"
    hunt = json.dumps(HUNT.replace("@HOME@", str(home)))
    edit = '{ path = "small/core.py", old = "import os\\nimport sys\\n", new = "" }'
    file.write_text(
        f'title = "Hunt"\n[[turn]]\n[[turn.call]]\ntool = "shell"\ninput = {{ command = {hunt} }}\n'
        f'[[turn]]\n[[turn.call]]\ntool = "edit"\ninput = {edit}\n'
        '[[turn]]\n[[turn.call]]\ntool = "finish"\ninput = { summary = "I looked around." }\n'
    )
    return file


def canaries(fleet: Fleet) -> dict[str, str]:
    """What was planted, and every secret that the home made for itself."""
    found = dict(PLANTED)
    for file in (*sorted(fleet.layout.secrets.glob("*.json")), fleet.layout.redis / "acl.json"):
        for name, value in json.loads(file.read_text()).items():
            if not value.startswith("http"):
                found[f"{file.stem}: {name}"] = value
    assert {"forge: write", "gateway: key", "state: key", "acl: publisher", "acl: gateway"} <= found.keys(), (
        found.keys()
    )
    return found


def store(fleet: Fleet) -> FleetRedis:
    passwords = json.loads((fleet.layout.redis / "acl.json").read_text())
    return connect(parse_address(f"unix://{fleet.layout.runtime}/redis.sock"), "admin", passwords[Role.ADMIN.value])


def ledger(fleet: Fleet, scanner: Scanner) -> None:
    """Every key and value, and what it is made of in a backup."""
    with closing(store(fleet)) as client:
        for key in client.scan_iter(count=1000):
            scanner.bytes("ledger: keys", f"key {key!r}", key if isinstance(key, bytes) else key.encode())
            kind = client.type(key)
            kind = kind.decode() if isinstance(kind, bytes) else kind
            reads: dict[str, Any] = {
                "string": client.get, "hash": client.hgetall, "zset": lambda k: client.zrange(k, 0, -1),
                "set": client.smembers, "list": lambda k: client.lrange(k, 0, -1), "stream": client.xrange,
            }  # fmt: skip
            scanner.bytes(f"ledger: {kind}", f"key {key!r}", _flat(reads[kind](key)))


def _flat(value: Any) -> bytes:
    """Every string in it, one after the other."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return b"\n".join(_flat(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set):
        return b"\n".join(_flat(one) for one in value)
    return str(value).encode()


def attempt_is_at_work(fleet: Fleet) -> Path:
    """The workspace, once the hunt is over and the command waits."""
    found: list[Path] = []

    def hunting() -> bool:
        found[:] = fleet.layout.slots.rglob("hunting")
        return bool(found)

    assert eventually(hunting, timeout=60.0, every=0.05)
    return found[0].parent


def forge(fleet: Fleet, done: Done, scanner: Scanner) -> None:
    """What the forge answers: pull requests, comments, statuses, events, pages of the change."""
    number = done.result["pull_request"]["number"]
    head = done.result["pull_request"]["head_sha"]
    for path in ("issues", "issues/comments", "issues/1", "issues/1/comments", "issues/1/events", "issues/1/timeline",
                 "pulls", f"pulls/{number}", f"pulls/{number}/files", f"pulls/{number}/commits",
                 f"issues/{number}/comments", f"commits/{head}", "labels", "branches"):  # fmt: skip
        query = "?state=all&per_page=100"
        scanner.text("forge", path, json.dumps(fleet.api(f"/repos/{done.repo}/{path}{query}"), ensure_ascii=False))


@pytest.mark.invariant("I7")
@pytest.mark.timeout(120)
def test_no_secret_is_anywhere_but_where_it_belongs(tmp_path: Path) -> None:
    # With a receiver of webhooks, so that there is a secret of webhooks as well.
    more = {"FLEET_INTAKE_WEBHOOK_PORT": str(free_port())}
    with provider() as model, fleet_home(None, **PLANTED, ANTHROPIC_BASE_URL=f"{model.url}/anthropic", **more) as fleet:
        repo = repository(tmp_path / "hunted")
        agent = f"anthropic:rehearsal/{script(tmp_path, fleet.home)}"
        running = fleet.start(
            "run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", agent
        )
        workspace = attempt_is_at_work(fleet)
        secrets = canaries(fleet)
        (attempt,) = [path for path in fleet.layout.attempts.iterdir() if path.is_dir()]
        secrets["key of the attempt"] = attempt_key(
            secrets["gateway: key"].encode(), attempt.name.rpartition(".")[0], 1
        )
        scanner = Scanner(secrets)
        pids = {*fleet.processes(), *fleet.family()} - {running.pid}
        assert len(pids) > 12 and any(b"hunting" in read(Path(f"/proc/{pid}/cmdline")) for pid in pids), pids
        scanner.processes(pids)
        scanner.tree("workspace", workspace)
        scanner.tree("attempts", fleet.layout.attempts)
        # It appears as it must be: the agent may take it away in the same moment.
        (workspace / "ready").touch()
        (workspace / "ready").chmod(0o666)
        (workspace / "ready").rename(workspace / "go")
        out, err = running.communicate(timeout=90)
        done = Done(running.returncode, out, err)
        assert (done.code, done.result["state"]) == (0, "in_review"), (done.result, err)
        everywhere(fleet, done, repo, scanner)
        prompts(model, scanner)
        assert "notes.txt" in {one["filename"] for one in fleet.api(f"/repos/{done.repo}/pulls/2/files")}
        scanner.check(
            "process environ", "process cmdline", "workspace: files", "attempts: files", "said", "home: files",
            "home: rows", "home: git objects", "home: bundles", "work: files", "runtime: files",
            "checkout: git objects", "forge", "ledger: stream", "ledger: hash", "ledger: string", "prompts",
        )  # fmt: skip


def everywhere(fleet: Fleet, done: Done, repo: Path, scanner: Scanner) -> None:
    """All that the fleet wrote, but for the two places where secrets belong."""
    for name, text in (("stdout", done.out), ("stderr", done.err)):
        scanner.text("said", name, text)
    for words in (("show", done.result["ticket"]), ("ls",), ("status",), ("doctor",)):
        shown = fleet(*words)
        # The person's own links open the pages by the person's own token.
        text = (shown.out + shown.err).replace(f"?token={fleet.tokens()['person']}", "")
        scanner.text("said", " ".join(words), text)
    scanner.tree("home", fleet.home, (fleet.layout.secrets, fleet.layout.redis / "acl.json"))
    scanner.tree("work", fleet.layout.work, (fleet.layout.environments,))
    scanner.tree("runtime", fleet.layout.runtime)
    scanner.objects("checkout", repo / ".git")
    ledger(fleet, scanner)
    forge(fleet, done, scanner)


def prompts(model: Provider, scanner: Scanner) -> None:
    """The provider gets its own key in one header, and it gets it nowhere else."""
    assert len(model.asked) == 3
    for asked in model.asked:
        assert asked.headers.pop("x-api-key") == PLANTED["ANTHROPIC_API_KEY"]
        scanner.text("prompts", "headers", json.dumps(asked.headers))
        scanner.bytes("prompts", asked.path, asked.body)
    assert b"hunting" in model.asked[1].body


def test_the_search_knows_where_the_forge_keeps_what(tmp_path: Path) -> None:
    """A database that another process is writing is read, too: with what is only in its journal so far."""
    base = tmp_path / "forge.db"
    with closing(sqlite3.connect(base)) as first:
        first.execute("PRAGMA journal_mode=WAL")
        first.execute("CREATE TABLE comments (body)")
        first.commit()
        first.execute("INSERT INTO comments VALUES (?)", (PLANTED["OPENAI_API_KEY"],))
        first.commit()
        scanner = Scanner({"key": PLANTED["OPENAI_API_KEY"]})
        scanner.tree("home", tmp_path)
    assert {leak.where for leak in scanner.found} >= {str(base)}
