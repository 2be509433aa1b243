"""Webhooks as GitHub sends them: signed over the raw bytes, logged, never repeated by themselves."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fleet.forge.deliver import post
from fleet.forge.hooks import loopback
from tests.forge.conftest import NAME, Forge, git
from tests.support.wait import eventually

Branch = Callable[..., str]
SECRET = "the secret of the hook"


@dataclass
class Receiver:
    """What arrived: (headers, raw body)."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: int = 200

    def events(self) -> list[str]:
        names = []
        for headers, body in list(self.got):
            action = json.loads(body).get("action")
            names.append(headers["x-github-event"] + (f".{action}" if action else ""))
        return names

    def payload(self, name: str) -> dict[str, object]:
        return next(json.loads(body) for (_, body), one in zip(self.got, self.events(), strict=True) if one == name)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    box = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            box.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(box.answer)
            self.end_headers()
            self.wfile.write(b"noted")

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    box.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield box
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_events_of_a_ticket(forge: Forge, work: Path, branch: Branch, receiver: Receiver) -> None:
    repo = forge.repo()
    hook = repo.create_hook("web", {"url": receiver.url, "content_type": "json", "secret": SECRET}, ["*"])
    issue = repo.create_issue("One", "Text")
    issue.add_to_labels("fleet")
    issue.remove_from_labels("fleet")
    issue.edit(body="New text")
    issue.create_comment("hello")
    sha = branch("feature")
    pull = repo.create_pull(base="main", head="feature", title="Two", body="Closes #1")
    branch("feature", {"more.txt": "x\n"})
    pull.add_to_labels("ready")
    run = repo.create_check_run("tests", sha, status="in_progress")
    run.edit(status="completed", conclusion="success")
    pull.merge()
    wanted = [
        "ping", "issues.opened", "issues.labeled", "issues.unlabeled", "issues.edited", "issue_comment.created", "push",
        "pull_request.opened", "push", "pull_request.synchronize", "pull_request.labeled", "check_run.created",
        "check_run.completed", "push", "pull_request.closed", "issues.closed",
    ]  # fmt: skip
    assert eventually(lambda: len(receiver.got) >= len(wanted)), receiver.events()
    assert receiver.events() == wanted
    for headers, body in receiver.got:
        right = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(headers["x-hub-signature-256"], right)
    guids = [headers["x-github-delivery"] for headers, _ in receiver.got]
    assert len(set(guids)) == len(guids)
    labeled = receiver.payload("issues.labeled")
    assert labeled["label"]["name"] == "fleet" and labeled["sender"]["login"] == "ann"  # type: ignore[index]
    assert labeled["repository"]["full_name"] == NAME and labeled["issue"]["number"] == 1  # type: ignore[index]
    moved = receiver.payload("pull_request.synchronize")
    assert moved["before"] == sha and moved["after"] == moved["pull_request"]["head"]["sha"]  # type: ignore[index]
    assert receiver.payload("pull_request.closed")["pull_request"]["merged"] is True  # type: ignore[index]
    assert hook.active


def test_failed_deliveries_wait_for_a_person(forge: Forge, work: Path, receiver: Receiver) -> None:
    repo = forge.repo()
    receiver.answer = 500
    hook = repo.create_hook("web", {"url": receiver.url, "content_type": "json"}, ["issues"])
    repo.create_issue("One")
    git(work, "push", "-q", "origin", "main:other")  # a push, which this hook does not want
    assert eventually(lambda: [one.status_code for one in repo.get_hook_deliveries(hook.id)] == [500, 500])
    assert receiver.events() == ["ping", "issues.opened"], "nothing is repeated by itself"
    receiver.answer = 200
    failed = next(iter(repo.get_hook_deliveries(hook.id)))
    assert failed.id is not None
    full = repo.get_hook_delivery(hook.id, failed.id)
    assert full.event == "issues" and full.request is not None
    repo.requester.requestJsonAndCheck("POST", f"{repo.url}/hooks/{hook.id}/deliveries/{failed.id}/attempts")
    assert eventually(lambda: len(receiver.got) == 3)
    first, again = receiver.got[1], receiver.got[2]
    assert first[1] == again[1] and first[0]["x-github-delivery"] == again[0]["x-github-delivery"]
    assert "x-hub-signature-256" not in again[0]


def test_deliveries_survive_a_restart(forge: Forge, receiver: Receiver) -> None:
    """Written with the change itself, so a server that dies before sending loses nothing."""
    repo = forge.repo()
    repo.create_hook("web", {"url": receiver.url, "content_type": "json"}, ["issues"])
    assert eventually(lambda: receiver.events() == ["ping"])
    from fleet.forge import issues

    with forge.store.write() as tx:  # another process than the server
        ann = tx.user("ann")
        assert ann is not None
        issues.create(tx, forge.store.repo(NAME), ann["id"], "From outside", None)
    assert eventually(lambda: receiver.events() == ["ping", "issues.opened"])


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:1/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:5/", True),
        ("https://127.0.0.1/", False),
        ("http://example.com/", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://user@127.0.0.1/", False),
        ("http://169.254.169.254/", False),
        ("http://2130706433/", False),
        ("file:///etc/passwd", False),
        ("http://[::1", False),
    ],
)
def test_only_this_machine_is_called(url: str, allowed: bool) -> None:
    assert loopback(url) is allowed
    if not allowed:
        row = {"url": url, "body": b"{}", "content_type": "json", "secret": "", "event": "x", "guid": "g", "hook_id": 1}
        assert post(row)[0] == 0
