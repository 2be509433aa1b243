"""The webhook endpoint over real HTTP, with the payloads that GitHub publishes."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import http.client
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from fleet.adapters.web import loopback, serve_beside
from fleet.core.errors import TemporaryError, UsageError
from fleet.core.events import TicketAccepted
from fleet.intake.endpoint import MOST_BYTES, Answer, create_app
from fleet.intake.watched import WEBHOOK_PATH as PATH
from fleet.intake.webhook import IssueTold, PullTold, Told, read, signed
from tests.intake.room import Room
from tests.publisher.conftest import world  # noqa: F401
from tests.publisher.world import REPO, World
from tests.support.mutants import Mutant

SECRET = "It's a Secret to Everybody"
DATA = Path(__file__).parents[1] / "data" / "github-webhooks.json.gz"


@cache
def examples() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(gzip.decompress(DATA.read_bytes()))
    return found


def one(event: str, action: str) -> dict[str, Any]:
    return next(example for example in examples()[event] if example.get("action") == action)


class Site:
    """The endpoint on a loopback port; ``told`` is what it believed."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.answer: Answer | Exception = Answer(202, {"ticket": "demo-1"})
        listener = loopback(0)
        self.port = int(listener.getsockname()[1])
        serve_beside(create_app(SECRET, self._act), listener)

    def _act(self, told: Told) -> Answer:
        self.told.append(told)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def post(self, body: bytes, event: str = "issues", sign: str | None = None, **headers: str) -> tuple[int, Any]:
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest() if sign is None else sign
        names = {"Content-Type": "application/json", "X-GitHub-Event": event, "X-GitHub-Delivery": "a-b-c"}
        if signature:
            names["X-Hub-Signature-256"] = signature
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", PATH, body, {**names, **headers})
            answer = connection.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if raw else None
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running() -> Site:
    return Site()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    running.told.clear()
    running.answer = Answer(202, {"ticket": "demo-1"})
    yield running


def test_the_signature_of_github_s_own_example() -> None:
    """From GitHub's page "Validating webhook deliveries"."""
    told = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert signed(b"Hello, World!", SECRET, told)
    assert not signed(b"Hello, World!", SECRET + "x", told)
    assert not signed(b"Hello, World! ", SECRET, told)
    assert not signed(b"Hello, World!", SECRET, "") and not signed(b"Hello, World!", SECRET, "sha1=\u00e9")


def test_every_published_payload_is_understood() -> None:
    meant = {
        "issues": ("labeled", "unlabeled", "deleted", "transferred", "reopened"),
        "pull_request": ("closed",),
        "issue_comment": ("created",),
    }
    counted = 0
    for event, listed in examples().items():
        for example in listed:
            told = read(event, json.dumps(example).encode())
            counted += told is not None
            assert (told is not None) == (example.get("action") in meant.get(event, ())), (event, example.get("action"))
    assert counted >= 8
    labeled = one("issues", "labeled")
    issue = IssueTold(
        "Codertocat/Hello-World", labeled["issue"]["number"], "labeled", labeled["sender"]["login"], "bug"
    )
    assert read("issues", json.dumps(labeled).encode()) == issue
    closed = one("pull_request", "closed")
    pull = PullTold("Codertocat/Hello-World", closed["number"], closed["sender"]["login"])
    assert read("pull_request", json.dumps(closed).encode()) == pull


def test_a_signed_label_is_answered_with_its_ticket(site: Site) -> None:
    body = json.dumps(one("issues", "labeled")).encode()
    assert site.post(body) == (202, {"ticket": "demo-1"})
    form = b"payload=" + quote_plus(body).encode()
    assert site.post(form, **{"Content-Type": "application/x-www-form-urlencoded"})[0] == 202
    assert len(set(site.told)) == 1 and len(site.told) == 2


@pytest.mark.parametrize("sign", ["", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40])
def test_a_wrong_signature_is_refused_before_anything_is_read(site: Site, sign: str) -> None:
    status, said = site.post(json.dumps(one("issues", "labeled")).encode(), sign=sign)
    assert status == 401 and "signature" in said["message"] and site.told == []
    assert site.post(b"not even JSON", sign=sign)[0] == 401


def test_mutant_that_believes_everybody_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.intake.webhook:signed", "return hmac.compare_digest(expected.encode(),", "return (expected,").install(
        monkeypatch
    )
    open_site = Site()
    with pytest.raises(AssertionError):
        test_a_wrong_signature_is_refused_before_anything_is_read(open_site, "sha256=" + "0" * 64)


@pytest.mark.parametrize("promised", [True, False])
def test_a_huge_body_is_cut_off(site: Site, promised: bool) -> None:
    body = b'{"x":"' + b"a" * MOST_BYTES + b'"}'
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    try:
        if promised:
            connection.request("POST", PATH, headers={"Content-Length": str(10**12)})
        else:
            chunks = (body[at : at + 65536] for at in range(0, len(body), 65536))
            connection.request("POST", PATH, chunks, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it hung up in the middle of what it does not want
    finally:
        connection.close()
    assert site.told == []


@pytest.mark.parametrize(
    ("body", "event", "status"),
    [
        (b"{}", "ping", 200),
        (b"{}", "star", 204),
        (b'{"action":"labeled"}', "issues", 204),
        (b"[1]", "issues", 400),
        (b"\xff\xfe", "issues", 400),
        (b'{"action":5,"repository":{"full_name":"a/b"}}', "issues", 400),
        (b'{"action":"labeled","repository":{"full_name":"a/b"},"issue":{"number":"7"}}', "issues", 400),
    ],
)
def test_other_messages(site: Site, body: bytes, event: str, status: int) -> None:
    assert site.post(body, event)[0] == status
    assert site.told == []


@pytest.mark.invariant("I1")
@pytest.mark.parametrize(
    ("error", "status"), [(TemporaryError("The store is away."), 503), (UsageError("No."), 400)], ids=["store", "usage"]
)
def test_nothing_is_promised_that_is_not_on_disk(site: Site, error: Exception, status: int) -> None:
    site.answer = error
    assert site.post(json.dumps(one("issues", "labeled")).encode())[0] == status


@pytest.mark.invariant("I2")
def test_a_delivery_and_its_redeliveries_are_one_ticket(world: World) -> None:  # noqa: F811
    room = Room(world)
    number = room.issue()
    site = Site()
    payload = one("issues", "labeled")
    payload = {**payload, "repository": {**payload["repository"], "full_name": REPO}}
    payload["issue"] = {**payload["issue"], "number": number}
    payload["label"] = {**payload["label"], "name": "fleet"}
    served = Site.__new__(Site)
    listener = loopback(0)
    served.port = int(listener.getsockname()[1])
    serve_beside(create_app(SECRET, room.sweep.heard), listener)
    body = json.dumps(payload).encode()
    answers = [served.post(body) for _ in range(3)]
    assert [status for status, _ in answers] == [202, 202, 202]
    assert len({said["ticket"] for _, said in answers}) == 1
    accepted = {event.ticket for event in room.absorb() if isinstance(event.data, TicketAccepted)}
    assert len(accepted) == 1 and site.told == []
    # The repository that is not watched, and the label of a stranger, are told why and start nothing.
    other = {**payload, "repository": {**payload["repository"], "full_name": "ann/else"}}
    assert served.post(json.dumps(other).encode()) == (200, {"ignored": "ann/else is not watched"})
    assert room.absorb() == []
