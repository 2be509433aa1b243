"""The forge client: what is repeated, what never is, and what each refusal means for the caller."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.forge_client import HubClient
from fleet.adapters.forge_errors import error_for
from fleet.adapters.forge_issue import add_label, open_issue
from fleet.adapters.forge_throttle import Throttle
from fleet.core.errors import ConflictError, FleetError, InternalError, ParkError, TemporaryError, UsageError
from fleet.core.forge import CommitStatus, Permission, StatusState
from tests.publisher.world import REPO, World
from tests.support.clock import VirtualClock

ROOT = Path(__file__).parents[2]
PULLS = f"/api/v3/repos/{REPO}/pulls"


@pytest.mark.parametrize(
    ("status", "data", "headers", "kind", "retry_after"),
    [
        (401, {"message": "Bad credentials"}, {}, ParkError, None),
        (403, {"message": "Resource not accessible by integration"}, {}, ParkError, None),
        (403, {"message": "API rate limit exceeded for x"}, {}, TemporaryError, 60.0),
        (403, {"message": "You have exceeded a secondary rate limit"}, {"Retry-After": "17"}, TemporaryError, 17.0),
        (
            403,
            {"message": "API rate limit exceeded"},
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1100"},
            TemporaryError,
            101.0,
        ),
        (404, {"message": "Not Found"}, {}, UsageError, None),
        (409, {"message": "Conflict"}, {}, ConflictError, None),
        (422, {"message": "Validation Failed", "errors": [{"field": "head", "code": "invalid"}]}, {}, UsageError, None),
        (429, None, {"retry-after": "5"}, TemporaryError, 5.0),
        (500, "<html>", None, TemporaryError, None),
        (503, None, {"Retry-After": "9"}, TemporaryError, 9.0),
        (418, ["odd"], {}, InternalError, None),
    ],
)
def test_what_an_error_means(
    status: int, data: object, headers: dict[str, str] | None, kind: type[FleetError], retry_after: float | None
) -> None:
    error = error_for(status, data, headers, "testing", 1000.0)
    assert type(error) is kind and getattr(error, "retry_after", None) == retry_after
    assert "while testing" in str(error)


@pytest.mark.invariant("I21")
def test_what_the_forge_says_cannot_steer_a_terminal() -> None:
    text = str(error_for(422, {"message": "a\x1b[2Jb\u202e", "errors": ["c\nd"] * 500}, {}, "testing", 0.0))
    assert text.isprintable() and len(text) < 500


@pytest.mark.invariant("I4")
def test_a_creation_is_asked_once_and_a_reading_again(world: World) -> None:
    world.push(world.commit(world.base, {"a.py": ""}), "one")
    client = HubClient(f"{world.forge.base}/api/v3", world.token, world.clock, retries=3)
    world.forge.faults[("before", "POST", PULLS)] = 502
    with pytest.raises(TemporaryError, match="status 502"):
        client.create_pull_request(REPO, title="t", body="b", branch="one", base="main")
    assert world.pulls() == []
    world.forge.faults[("before", "GET", PULLS)] = 502
    assert client.find_pull_request(REPO, "one", "-") is None


@pytest.mark.invariant("I4")
def test_mutant_with_the_library_s_own_retry_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With POST among the retried methods the same fault is papered over by a second POST."""
    import fleet.adapters.forge_client as module

    world.push(world.commit(world.base, {"a.py": ""}), "one")
    monkeypatch.setattr(module, "_RETRIED", (*module._RETRIED, "POST"))
    client = HubClient(f"{world.forge.base}/api/v3", world.token, world.clock)
    world.forge.faults[("before", "POST", PULLS)] = 502
    client.create_pull_request(REPO, title="t", body="b", branch="one", base="main")
    assert len(world.pulls()) == 1


@pytest.mark.invariant("I19")
def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api/v3"
        with pytest.raises(TemporaryError, match="does not answer while reading the repository"):
            HubClient(url, "x", SystemClock(), retries=0).repository(REPO)


def test_refusals_by_kind(world: World) -> None:
    with pytest.raises(ParkError) as bad:
        world.hub("nonsense").repository(REPO)
    assert bad.value.reason == "config"
    with pytest.raises(UsageError, match="found nothing"):
        world.bob.repository("ann/nowhere")
    with pytest.raises(UsageError, match="found nothing"):
        world.bob.issue(REPO, 99)
    reader = world.hub(world.forge.store.issue_token("bob", ("issues:read",), [REPO]))
    with pytest.raises(ParkError, match="may not do this while creating an issue"):
        reader.create_issue(REPO, "t", "b")
    with pytest.raises(UsageError, match="refused the request"):
        world.bob.create_pull_request(REPO, title="t", body="b", branch="main", base="main")


def test_reading(world: World) -> None:
    repo = world.bob.repository(REPO)
    assert (repo.full_name, repo.default_branch, repo.clone_url) == (REPO, "main", world.url)
    issue = world.bob.issue(REPO, world.issue)
    assert (issue.title, issue.body, issue.open, issue.author) == ("Remove unused imports", "Please.", True, "bob")
    world.bob.add_labels(REPO, world.issue, ["fleet"])
    assert [one.number for one in world.bob.issues_with_label(REPO, "fleet")] == [world.issue]
    assert world.bob.issues_with_label(REPO, "other") == ()
    assert world.bob.permission(REPO, "fleet-bot") is Permission.WRITE
    assert world.bob.permission(REPO, "stranger") is Permission.NONE


def test_an_issue_opened_without_the_library_is_the_same_issue(world: World) -> None:
    api = f"{world.forge.base}/api/v3"
    one = open_issue(api, world.person, world.clock, REPO, "Ünused", "b\n", ["fleet"])
    two = world.bob.create_issue(REPO, "Ünused", "b\n", ["fleet"])
    assert replace(one, number=0, url="") == replace(two, number=0, url="") and two.number == one.number + 1
    for _ in range(2):
        add_label(api, world.person, world.clock, REPO, one.number, "later")
    assert world.bob.issue(REPO, one.number).labels == ("fleet", "later")
    with pytest.raises(ParkError):
        open_issue(api, "nonsense", world.clock, REPO, "t", "b")
    with pytest.raises(UsageError, match="refused the request while creating an issue"):
        open_issue(api, world.person, world.clock, REPO, "", "b")
    world.forge.faults[("after", "POST", f"/api/v3/repos/{REPO}/issues")] = 0
    with pytest.raises(TemporaryError, match="does not answer"):
        open_issue(api, world.person, world.clock, REPO, "t", "b")


def test_nobody_pays_for_the_library_before_a_client_is_made() -> None:
    code = "import sys, fleet.adapters.forge_client, fleet.adapters.forge_issue; print('github' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_statuses_and_labels_are_set_once(world: World) -> None:
    ours = world.hub(world.token)
    status = CommitStatus("fleet/tests", StatusState.SUCCESS, "passed")
    for _ in range(2):
        ours.set_statuses(REPO, world.base, [status])
        ours.add_labels(REPO, world.issue, ["fleet"])
    verbs = [seen.verb for seen in world.forge.seen if seen.login == "fleet-bot"]
    assert verbs.count("status.create") == 1 and verbs.count("issue.label") == 1


def test_writes_take_turns(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "pace"
    one, two = Throttle(clock, path), Throttle(clock, path)
    times = []
    for throttle in (one, two, one, two):
        throttle.wait()
        times.append(clock.monotonic())
    assert times == [0.0, 1.0, 2.0, 3.0]
    path.write_text("99999999999")  # from before a reboot
    one.wait()
    assert clock.monotonic() == 4.0
    path.write_text("nonsense")
    one.wait()
    assert path.stat().st_mode & 0o077 == 0


def test_threads_share_the_pace(tmp_path: Path) -> None:
    throttle = Throttle(SystemClock(), tmp_path / "pace", gap=0.02)
    threads = [threading.Thread(target=throttle.wait) for _ in range(5)]
    started = SystemClock().monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert SystemClock().monotonic() - started >= 0.08  # a floor, not a ceiling: the pace is what is proven
