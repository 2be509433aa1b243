"""The forge as its own process: what was answered survives kill -9, and git's own changes are caught up with."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from fleet.adapters.clock import SystemClock
from fleet.adapters.ids import SystemIds
from fleet.forge.access import EVERYTHING
from fleet.forge.db import Database
from fleet.forge.server import bind
from fleet.forge.store import ForgeStore
from tests.forge.conftest import NAME, Forge, git
from tests.support.wait import eventually

CHECKOUT = Path(__file__).resolve().parents[2]


@contextmanager
def process(root: Path, kill: bool = True, verb_log: Path | None = None) -> Iterator[tuple[Forge, int]]:
    url_file = root.with_suffix(".url")
    url_file.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "fleet.forge", "--root", str(root), "--port", "0", "--url-file", str(url_file)]
    argv += ["--verb-log", str(verb_log)] if verb_log else []
    child = subprocess.Popen(argv, cwd=CHECKOUT)
    try:
        assert eventually(lambda: url_file.exists() or child.poll() is not None, 30)
        base = url_file.read_text().strip()
        yield Forge(ForgeStore(root, SystemClock(), SystemIds()), base, root), child.pid
    finally:
        child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        child.wait(20)
    if not kill:
        assert child.returncode == 0


@pytest.mark.invariant("I1")
def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    root = tmp_path / "forge"
    store = ForgeStore(root, SystemClock(), SystemIds())
    store.ensure_repo(NAME)
    token = store.issue_token("ann", EVERYTHING)
    rounds = 3
    for number in range(1, rounds + 1):
        with process(root) as (forge, pid):
            issue = forge.repo(token).create_issue(f"Issue {number}")
            os.kill(pid, signal.SIGKILL)
            assert issue.number == number
    print(f"{rounds} rounds, {rounds} kills, 0 lost, 0 doubled")
    log = tmp_path / "verbs"
    with process(root, kill=False, verb_log=log) as (forge, _):
        found = sorted(one.title for one in forge.repo(token).get_issues())
        assert found == [f"Issue {number}" for number in range(1, rounds + 1)]
        assert '"verb": "issue.list"' in log.read_text()
    assert root.stat().st_mode & 0o777 == 0o700 and (root / "forge.db").stat().st_mode & 0o777 == 0o600


def test_git_moved_while_the_server_was_dead(tmp_path: Path) -> None:
    """A kill between git's update and the record: the next start follows."""
    root = tmp_path / "forge"
    store = ForgeStore(root, SystemClock(), SystemIds())
    repo = store.ensure_repo(NAME)
    token = store.issue_token("ann", EVERYTHING)
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    with process(root) as (forge, _):
        for name in ("main", "feature"):
            git(work, "checkout", "-q", "-B", name)
            git(work, "commit", "-q", "--allow-empty", "-m", name)
            git(work, "push", "-q", forge.url(token), name)
        pull = forge.repo(token).create_pull(base="main", head="feature", title="One")
    git(work, "commit", "-q", "--allow-empty", "-m", "Later")
    head = git(work, "rev-parse", "HEAD").strip()
    git(work, "push", "-q", str(store.bare(repo).path), "feature")
    with process(root) as (forge, _):
        assert forge.repo(token).get_pull(pull.number).head.sha == head


@pytest.mark.invariant("I1")
def test_a_full_disk_is_said_and_nothing_half_done(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Database._connect

    def small(self: Database) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count = 120")
        return connection

    monkeypatch.setattr(Database, "_connect", small)
    forge.store.close()
    token = forge.token()
    answers = []
    for number in range(40):
        body = {"title": f"Issue {number}", "body": "x" * 20000}
        url, headers = f"{forge.base}/api/v3/repos/{NAME}/issues", {"Authorization": f"token {token}"}
        answers.append(requests.post(url, json=body, headers=headers, timeout=30).status_code)
    assert set(answers) == {201, 503}
    assert len(list(forge.repo(token).get_issues())) == answers.count(201)


def test_answers_are_not_held_back() -> None:
    """asyncio sets TCP_NODELAY only on sockets that name their protocol; without it each answer waits 40 ms."""
    listener = bind(0)
    assert listener.proto == socket.IPPROTO_TCP and listener.getsockname()[0] == "127.0.0.1"
    listener.close()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with process(tmp_path / "one") as (forge, _):
        port = forge.base.rsplit(":", 1)[1]
        argv = [sys.executable, "-m", "fleet.forge", "--root", str(tmp_path / "two"), "--port", port]
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and f"Port {port} of 127.0.0.1 cannot be used" in done.stderr
