"""A GitHub for whole-fleet tests: a forge server of its own beside the fleet's, under another owner.

Only its far side is stood in for: PyGithub, git over HTTP and tokens are the real ones.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from fleet.adapters.clock import SystemClock
from fleet.adapters.forge_client import HubClient
from fleet.adapters.ids import SystemIds
from fleet.core.forge import ForgePull, Issue
from fleet.forge.app import create_app
from fleet.forge.importing import import_branch
from fleet.forge.server import bind
from fleet.forge.settings import ForgeSettings, VerbSeen
from fleet.forge.store import ForgeStore
from tests.forge_contract.contract import Checked
from tests.support.wait import eventually

BOT = ("contents:write", "issues:write", "pull_requests:write", "statuses:write")
PERSON = (*BOT, "workflows:write", "webhooks:write")


@dataclass
class Hub:
    """``token`` is what a user would export; ``person`` belongs to somebody who may write."""

    store: ForgeStore
    base: str
    seen: list[VerbSeen] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    token: str = ""
    person: str = ""

    def env(self, token: str | None = None) -> dict[str, str]:
        """What makes a fleet take this server for GitHub."""
        told = self.token if token is None else token
        return {
            "FLEET_GITHUB_API_URL": f"{self.base}/api/v3",
            "FLEET_GITHUB_WEB_URL": self.base,
            "FLEET_GITHUB_SECONDS_BETWEEN_WRITES": "0.01",
        } | ({"GITHUB_TOKEN": told} if told else {})

    def repository(self, full_name: str, checkout: Path, bot: str = "write") -> str:
        """A repository with the checkout's ``main``; ann owns it, the fleet's user may do ``bot`` there."""
        self.store.ensure_user("fleet-robot", "Robot", type="Bot")
        self.store.ensure_user("ann")
        self.store.ensure_repo(full_name, private=False)
        import_branch(self.store, full_name, checkout, "main")
        self.store.set_permission(full_name, "fleet-robot", bot)
        self.store.set_permission(full_name, "ann", "admin")
        if not self.token:
            self.token = self.store.issue_token("fleet-robot", BOT)
            self.person = self.store.issue_token("ann", PERSON)
        return full_name

    def client(self, token: str = "") -> HubClient:
        return HubClient(f"{self.base}/api/v3", token or self.person, SystemClock(), retries=1)

    def issue(self, repo: str, title: str, body: str = "", labels: tuple[str, ...] = ()) -> Issue:
        return self.client().create_issue(repo, title, body, labels)

    def pulls(self, repo: str) -> list[ForgePull]:
        with self.store.read() as tx:
            rows = tx.rows.all("SELECT i.number FROM pulls p JOIN issues i ON i.id = p.issue_id ORDER BY i.number")
        return [self.client().pull_request(repo, row["number"]) for row in rows]

    def get(self, path: str) -> Any:
        """The API's answer as ann sees it."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.person}"}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.base}/api/v3{path}", data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)

    def close(self, repo: str, number: int) -> None:
        self.ask("PATCH", f"/repos/{repo}/issues/{number}", {"state": "closed"})

    def labels(self, repo: str, number: int) -> set[str]:
        return {label["name"] for label in self.get(f"/repos/{repo}/issues/{number}/labels")}

    def comments(self, repo: str, number: int) -> list[str]:
        return [row["body"] for row in self.get(f"/repos/{repo}/issues/{number}/comments")]

    def verbs(self, login: str) -> set[str]:
        return {seen.verb for seen in self.seen if seen.login == login and seen.status < 300}


@contextmanager
def github(root: Path) -> Iterator[Hub]:
    listener = bind(0)
    hub = Hub(ForgeStore(root, SystemClock(), SystemIds()), f"http://127.0.0.1:{listener.getsockname()[1]}")
    app = create_app(ForgeSettings(hub.store, hub.base, verb_log=hub.seen.append, anonymous=True))
    server = uvicorn.Server(
        uvicorn.Config(Checked(app, hub.wrong), log_level="error", lifespan="on", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert eventually(lambda: server.started or not thread.is_alive())
    try:
        yield hub
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()
        hub.store.close()
    assert hub.wrong == []  # what GitHub would not understand
