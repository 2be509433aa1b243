"""Every request of the adapter is one that GitHub's published description allows, and a wrong one is noticed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.core.forge import CommitStatus, StatusState
from tests.forge_contract.contract import github
from tests.publisher.conftest import *  # noqa: F403 - its world: a real forge, a real client
from tests.publisher.world import REPO, World

R = f"/repos/{REPO}"


def test_the_whole_adapter_speaks_as_described(world: World) -> None:
    hub = world.hub(world.token)
    world.push(world.commit(world.base, {"a.py": ""}), "one")
    number = world.issue
    hub.repository(REPO)
    hub.issue(REPO, number)
    hub.issues_with_label(REPO, "fleet")
    page = hub.labelled(REPO, "fleet")
    assert page is not None and hub.labelled(REPO, "fleet", page.etag) is None
    hub.issue_since(REPO, number)
    hub.last_labelled(REPO, number, "fleet")
    hub.permission(REPO, "bob")
    said = hub.comments(REPO, 1.0)
    assert said is not None and hub.comments(REPO, 1.0, said.etag) is None
    hub.create_issue(REPO, "Another", "text", ("fleet",))
    pull = hub.create_pull_request(REPO, title="t", body="<!-- m --> b", branch="one", base="main")
    hub.find_pull_request(REPO, "one", "<!-- m -->")
    hub.find_pull_request(REPO, "two", "<!-- m -->")
    hub.pull_request(REPO, pull.number)
    hub.edit_pull_request(REPO, pull.number, "c")
    hub.add_labels(REPO, number, ("fleet",))
    hub.swap_labels(REPO, number, "fleet:queued", ("fleet", "fleet:review"))
    hub.put_comment(REPO, number, "<!-- x -->", "<!-- x --> one")
    hub.put_comment(REPO, number, "<!-- x -->", "<!-- x --> two")
    hub.set_statuses(REPO, pull.head_sha, [CommitStatus("fleet/lint", StatusState.SUCCESS, "fine")])
    assert hub.read_file(REPO, "a.py", "main") is not None and hub.read_file(REPO, "gone", "main") is None
    hub.close_pull_request(REPO, pull.number)
    assert world.forge.wrong == []
    assert world.forge.counts["GET"] > 15 and {"POST", "PATCH", "DELETE"} <= world.forge.counts.keys()


WRONG: list[tuple[str, str, str, Any, str]] = [
    ("POST", f"{R}/pulls", "", {"title": "t", "head": "h"}, "'base' is a required property"),
    ("POST", f"{R}/pulls", "", {"title": "t", "head": "h", "base": "b", "draught": True}, "unknown draught"),
    ("POST", f"{R}/pulls", "", {"title": "t", "head": "h", "base": "b", "draft": "yes"}, "'yes' is not of type"),
    ("POST", f"{R}/statuses/abc", "", {"state": "passed"}, "'passed' is not one of"),
    ("POST", f"{R}/issues", "", {"body": "no title"}, "'title' is a required property"),
    ("POST", f"{R}/issues/1/labels", "", [1], "labels are names"),
    ("POST", f"{R}/issues/1/comments", "", {}, "'body' is a required property"),
    ("GET", f"{R}/issues", "label=fleet", None, "unknown query label"),
    ("GET", f"{R}/issues", "state=opened", None, "'opened' is not one of"),
    ("GET", f"{R}/issues/one", "", None, "'one' is not of type"),
    ("PUT", f"{R}/pulls/1/merge", "", {}, "no such operation"),
    ("POST", f"{R}/pulls/1/reviews", "", {"event": "APPROVE"}, "no such operation"),
    ("DELETE", f"{R}/git/refs/heads/main", "", None, "no such operation"),
]


@pytest.mark.parametrize(("method", "path", "query", "body", "told"), WRONG)
def test_mutants_of_a_request_are_noticed(method: str, path: str, query: str, body: Any, told: str) -> None:
    said = github().against(method, path, query, b"" if body is None else json.dumps(body).encode())
    assert len(said) == 1 and told in said[0], said
