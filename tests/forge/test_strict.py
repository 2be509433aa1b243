"""Where GitHub refuses, the local forge refuses: same status, same words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from github.GithubException import GithubException

from fleet.forge import pulls
from tests.forge.conftest import NAME, Forge, git

Branch = Callable[..., str]


def ask(forge: Forge, token: str | None, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
    """One plain request below the API's root."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return requests.request(method, f"{forge.base}/api/v3{path}", json=body, headers=headers, timeout=30)


def test_second_and_empty_pull_requests(forge: Forge, work: Path, branch: Branch) -> None:
    branch("feature")
    repo = forge.repo()
    repo.create_git_ref("refs/heads/same", repo.get_branch("main").commit.sha)
    repo.create_pull(base="main", head="feature", title="One")
    with pytest.raises(GithubException) as second:
        repo.create_pull(base="main", head="ann:feature", title="Two")
    assert second.value.status == 422
    assert second.value.data["errors"][0]["message"] == "A pull request already exists for ann:feature."
    with pytest.raises(GithubException) as empty:
        repo.create_pull(base="main", head="same", title="Nothing")
    assert empty.value.status == 422
    assert empty.value.data["errors"][0]["message"] == "No commits between main and same"
    assert len(list(repo.get_pulls(state="all"))) == 1


@pytest.mark.invariant("I4")
def test_two_creations_at_once_give_one(forge: Forge, work: Path, branch: Branch) -> None:
    for number in range(5):
        branch(f"race-{number}")
        body = {"title": "Race", "head": f"race-{number}", "base": "main"}
        token = forge.token()
        answers: list[int] = []
        start = threading.Barrier(3)

        def create(body: Any = body, token: str = token, answers: list[int] = answers, start: Any = start) -> None:
            start.wait()
            answers.append(ask(forge, token, "POST", f"/repos/{NAME}/pulls", body).status_code)

        threads = [threading.Thread(target=create) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(answers) == [201, 422, 422]


@pytest.mark.invariant("I4")
def test_mutant_without_the_check_the_table_still_refuses(
    forge: Forge, work: Path, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch("feature")
    body = {"title": "One", "head": "feature", "base": "main"}
    token = forge.token()
    monkeypatch.setattr(pulls, "_refuse_second", lambda *_: None)
    assert ask(forge, token, "POST", f"/repos/{NAME}/pulls", body).status_code == 201
    assert ask(forge, token, "POST", f"/repos/{NAME}/pulls", body).status_code == 422
    with forge.store.write() as tx:
        tx.rows.run("DROP INDEX one_open_pull")
    assert ask(forge, token, "POST", f"/repos/{NAME}/pulls", body).status_code == 201, "both protections are off"


@pytest.mark.invariant("I4")
@pytest.mark.parametrize("status", [502, 0])
def test_failure_after_the_commit_leaves_exactly_one(forge: Forge, work: Path, branch: Branch, status: int) -> None:
    branch("feature")
    forge.faults[("after", "POST", f"/api/v3/repos/{NAME}/pulls")] = status
    repo = forge.repo()
    with pytest.raises((GithubException, requests.exceptions.RequestException)):
        repo.create_pull(base="main", head="feature", title="One")
    assert [one.title for one in repo.get_pulls(head="ann:feature")] == ["One"]
    forge.faults[("before", "PATCH", f"/api/v3/repos/{NAME}/pulls/1")] = 503
    with pytest.raises(GithubException):
        repo.get_pull(1).edit(title="Never")
    assert repo.get_pull(1).title == "One"


REPO = f"/repos/{NAME}"
TABLE = [
    (401, None, "GET", REPO, None, "Requires authentication"),
    (401, "wrong", "GET", REPO, None, "Bad credentials"),
    (401, None, "GET", "/nothing", None, "Requires authentication"),
    (404, "stranger", "GET", REPO, None, "Not Found"),
    (404, "stranger", "POST", f"{REPO}/issues", {"title": "x"}, "Not Found"),
    (404, "elsewhere", "GET", REPO, None, "Not Found"),
    (404, "ann", "GET", "/repos/ann/none", None, "Not Found"),
    (404, "ann", "GET", f"{REPO}/issues/99", None, "Not Found"),
    (404, "ann", "GET", f"{REPO}/issues/x", None, "Not Found"),
    (404, "ann", "GET", f"{REPO}/git/ref/heads/main~1", None, "Not Found"),
    (404, "ann", "GET", f"{REPO}/branches/none", None, "Branch not found"),
    (403, "no_scope", "POST", f"{REPO}/issues", {"title": "x"}, "Resource not accessible"),
    (403, "reader", "POST", f"{REPO}/issues/1/labels", ["x"], "Resource not accessible"),
    (403, "reader", "POST", f"{REPO}/git/refs", {"ref": "refs/heads/x", "sha": "0" * 40}, "Resource not accessible"),
    (403, "reader", "PUT", f"{REPO}/pulls/2/merge", {}, "Resource not accessible"),
    (403, "reader", "PATCH", f"{REPO}/issues/1", {"title": "x"}, "Resource not accessible"),
    (403, "writer", "GET", f"{REPO}/hooks", None, "Resource not accessible"),
    (400, "ann", "POST", f"{REPO}/issues", ["x"], "JSON object"),
    (422, "ann", "POST", f"{REPO}/issues", {}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/issues", {"title": " "}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/issues", {"title": 7}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/issues", {"title": "x", "body": "x" * 65537}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/issues/1/comments", {"body": ""}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/labels", {"name": "known"}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/pulls", {"title": "x", "head": "none", "base": "main"}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/pulls", {"title": "x", "head": "eve:feature", "base": "main"}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/git/refs", {"ref": "refs/heads/a..b", "sha": "0" * 40}, "valid ref name"),
    (422, "ann", "POST", f"{REPO}/git/refs", {"ref": "refs/heads/x", "sha": "0" * 40}, "Object does not exist"),
    (422, "ann", "POST", f"{REPO}/statuses/{'0' * 40}", {"state": "success"}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/check-runs", {"name": "x", "head_sha": "0" * 40}, "Validation Failed"),
    (422, "ann", "POST", f"{REPO}/hooks", {"config": {"url": "http://example.com/"}}, "Validation Failed"),
    (405, "ann", "PUT", f"{REPO}/pulls/2/merge", {}, "draft"),
]


@pytest.fixture
def peopled(forge: Forge, work: Path, branch: Branch) -> dict[str, str | None]:
    """Tokens of several kinds of people; issue 1, draft pull request 2, label known."""
    branch("feature")
    repo = forge.repo()
    repo.create_issue("One", labels=["known"])
    repo.create_pull(base="main", head="feature", title="Two", draft=True)
    forge.store.set_permission(NAME, "reader", "read")
    forge.store.set_permission(NAME, "writer", "write")
    return {
        "ann": forge.token(),
        "wrong": "fft_wrong",
        "stranger": forge.token("stranger"),
        "elsewhere": forge.token(repos=["ann/other"]),
        "no_scope": forge.token(scopes=("issues:read",)),
        "reader": forge.token("reader"),
        "writer": forge.token("writer"),
    }


def test_table_of_refusals(forge: Forge, peopled: dict[str, str | None]) -> None:
    wrong = []
    for status, who, method, path, body, words in TABLE:
        answer = ask(forge, None if who is None else peopled[who], method, path, body)
        data = answer.json()
        if answer.status_code != status or words not in data["message"] or "documentation_url" not in data:
            wrong.append((status, who, method, path, answer.status_code, data))
    assert wrong == []
    assert forge.repo().get_issue(1).title == "One" and forge.repo().get_pull(2).state == "open"


def test_public_repository_for_outsiders(forge: Forge) -> None:
    """Anybody may talk; nobody without write access may label, not even in the creation."""
    forge.store.ensure_repo("ann/open", private=False)
    repo = forge.repo(forge.token("eve"), "ann/open")
    issue = repo.create_issue("Hello", labels=["fleet"])
    issue.create_comment("/fleet approve")
    assert issue.labels == [] and repo.permissions.push is False
    with pytest.raises(GithubException) as refused:
        issue.add_to_labels("fleet")
    assert refused.value.status == 403
    assert forge.repo(name="ann/open").get_collaborator_permission("eve") == "read"


def test_mergeability(forge: Forge, work: Path, branch: Branch) -> None:
    branch("one", {"README.md": "one\n"})
    branch("two", {"README.md": "two\n"})
    repo = forge.repo()
    one, two = (repo.create_pull(base="main", head=name, title=name) for name in ("one", "two"))
    assert one.merge().merged
    again = repo.get_pull(two.number)
    assert (again.mergeable, again.mergeable_state) == (False, "dirty")
    for pull in (one, two):
        with pytest.raises(GithubException) as refused:
            pull.merge()
        assert refused.value.status == 405
    with pytest.raises(GithubException) as reopened:
        one.edit(state="open")
    assert reopened.value.status == 422


def test_reopening(forge: Forge, work: Path, branch: Branch) -> None:
    branch("feature")
    repo = forge.repo()
    pull = repo.create_pull(base="main", head="feature", title="One")
    pull.edit(state="closed")
    pull.edit(state="open")
    assert repo.get_pull(pull.number).state == "open"
    pull.edit(state="closed")
    other = repo.create_pull(base="main", head="feature", title="Two")
    with pytest.raises(GithubException) as taken:
        pull.edit(state="open")
    assert taken.value.status == 422
    other.edit(state="closed")
    git(work, "push", "-q", "origin", ":feature")
    with pytest.raises(GithubException) as gone:
        pull.edit(state="open")
    assert "has been deleted" in json.dumps(gone.value.data)


def test_no_text_that_is_none(forge: Forge) -> None:
    token = forge.token()
    for raw in (b'{"title": "\\ud800"}', b"{", b"[" * 100000):
        answer = requests.post(
            f"{forge.base}/api/v3{REPO}/issues", data=raw, headers={"Authorization": f"token {token}"}, timeout=30
        )
        assert answer.status_code == 400


@pytest.mark.invariant("I13")
def test_every_verb_is_told(forge: Forge, work: Path, branch: Branch) -> None:
    """The log by which a test of the fleet sees that it approves, merges and marks nothing."""
    branch("feature")
    pull = forge.repo().create_pull(base="main", head="feature", title="One", draft=True)
    pull.mark_ready_for_review()
    pull.create_review(body="x", event="COMMENT")
    pull.merge()
    told = [(one.login, one.verb, one.status) for one in forge.seen if one.verb not in ("repo.get", "git.fetch")]
    assert told == [
        ("ann", "git.push", 200),
        ("ann", "git.push", 200),
        ("ann", "pull.create", 201),
        ("ann", "graphql.markPullRequestReadyForReview", 200),
        ("ann", "review.create", 200),
        ("ann", "pull.merge", 200),
    ]
