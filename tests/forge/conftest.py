"""A real forge on a real socket in a thread of this process, a real client and real git."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from github import Auth, Github, GithubRetry
from github.Repository import Repository

from fleet.adapters.clock import SystemClock
from fleet.adapters.ids import SystemIds
from fleet.forge.access import EVERYTHING
from fleet.forge.app import create_app
from fleet.forge.server import bind
from fleet.forge.settings import ForgeSettings, VerbSeen
from fleet.forge.store import ForgeStore
from tests.support.wait import eventually

NAME = "ann/demo"


def git(cwd: Path, *args: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    """Runs the git of the system as a person would; returns both outputs."""
    import os

    done = subprocess.run(
        ["git", *args],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"git {args}: {done.stderr}")
    return done.stdout + done.stderr


@dataclass
class Forge:
    """What a test holds in its hands."""

    store: ForgeStore
    base: str
    root: Path
    faults: dict[tuple[str, str, str], int] = field(default_factory=dict)
    seen: list[VerbSeen] = field(default_factory=list)

    def token(self, login: str = "ann", scopes: tuple[str, ...] = EVERYTHING, repos: list[str] | None = None) -> str:
        return self.store.issue_token(login, scopes, repos)

    def client(self, token: str) -> Github:
        retry = GithubRetry(total=1, allowed_methods={"GET", "HEAD"}, backoff_factor=0)
        return Github(
            base_url=f"{self.base}/api/v3",
            auth=Auth.Token(token),
            retry=retry,
            seconds_between_requests=0,
            seconds_between_writes=0,
        )

    def repo(self, token: str | None = None, name: str = NAME) -> Repository:
        return self.client(token or self.token()).get_repo(name)

    def url(self, token: str, name: str = NAME) -> str:
        return f"{self.base.replace('http://', f'http://x-access-token:{token}@')}/{name}.git"

    def fault(self, stage: str, method: str, path: str) -> int | None:
        return self.faults.pop((stage, method, path), None)


@contextmanager
def running(root: Path) -> Iterator[Forge]:
    """Serves ``root`` until the block ends."""
    listener = bind(0)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = ForgeStore(root, SystemClock(), SystemIds())
    forge = Forge(store, base, root)
    app = create_app(ForgeSettings(store, base, faults=forge.fault, verb_log=forge.seen.append))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert eventually(lambda: server.started or not thread.is_alive())
    assert server.started
    try:
        yield forge
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()
        store.close()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with running(tmp_path / "forge") as one:
        one.store.ensure_repo(NAME)
        yield one


@pytest.fixture
def work(forge: Forge, tmp_path: Path) -> Path:
    """A clone of ann/demo with one commit on main, pushed."""
    path = tmp_path / "work"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "README.md").write_text("# Demo\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "Start")
    git(path, "remote", "add", "origin", forge.url(forge.token()))
    git(path, "push", "-q", "origin", "main")
    return path


@pytest.fixture
def branch(work: Path) -> Callable[..., str]:
    """Commits ``files`` on a new branch from main (or further on it), pushes it, returns the commit's id."""

    def make(name: str, files: dict[str, str] | None = None, push: bool = True, message: str = "Change") -> str:
        known = git(work, "branch", "--list", name).strip()
        git(work, "checkout", "-q", *([name] if known else ["-b", name, "main"]))
        for path, text in (files or {f"{name}.txt": f"{name}\n"}).items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
        git(work, "add", "-A")
        git(work, "commit", "-qm", message)
        if push:
            git(work, "push", "-q", "origin", name)
        sha = git(work, "rev-parse", "HEAD").strip()
        git(work, "checkout", "-q", "main")
        return sha

    return make
