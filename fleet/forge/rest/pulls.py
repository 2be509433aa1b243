"""REST and GraphQL: pull requests and reviews."""

from __future__ import annotations

import re
from typing import Any

from fleet.forge import issues as issue_domain
from fleet.forge import pulls as domain
from fleet.forge import shapes, shapes_git
from fleet.forge.access import WRITE, level_of
from fleet.forge.changes import PatchLimits
from fleet.forge.db import Row
from fleet.forge.errors import ApiError, custom, forbidden, invalid, not_found
from fleet.forge.rest.call import Answer, Call, Json, Listing
from fleet.forge.store import as_repo

_REVIEWS = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}
_MUTATION = re.compile(r"^\s*mutation\b[^{]*\{\s*(\w+)\s*\(")
_DRAFT = {"markPullRequestReadyForReview": False, "convertPullRequestToDraft": True}


def _found(call: Call) -> Row:
    return domain.get(call.tx, call.repo, call.number())


def listing(call: Call) -> Listing:
    query = call.query
    rows = domain.listing(call.tx, call.repo, query.get("state", "open"), query.get("head", ""), query.get("base", ""))
    ordered = rows[::-1] if query.get("direction") == "asc" else rows
    return Listing(ordered, lambda row: shapes.pull(call.tx, call.repo, row))


def get(call: Call) -> Json:
    return domain.full(call.tx, call.repo, _found(call))


def create(call: Call) -> Answer:
    row = domain.create(
        call.tx, call.repo, call.caller, call.text("title"), call.maybe("body"),
        call.text("head"), call.text("base"), call.flag("draft"),
    )  # fmt: skip
    return Answer(domain.full(call.tx, call.repo, row), 201)


def edit(call: Call) -> Json:
    row = _found(call)
    if call.level < WRITE and row["author_id"] != call.caller.user_id:
        raise forbidden()
    names = ("title", "body", "state", "base")
    changes = {name: call.maybe(name) for name in names if name in call.fields}
    if changes.get("title", "x") is None:
        raise invalid("PullRequest", "title", "missing_field")
    return domain.full(call.tx, call.repo, domain.edit(call.tx, call.repo, row, call.caller, changes))


def files(call: Call) -> Listing:
    row = _found(call)
    changed = domain.files(call.tx, call.repo, row, PatchLimits())
    return Listing(changed, lambda one: shapes_git.file(call.tx, call.repo, row["head_sha"], one))


def commits(call: Call) -> Listing:
    found = domain.commits(call.tx, call.repo, _found(call))
    return Listing(found, lambda one: shapes_git.commit(call.tx, call.repo, one))


def commit_pulls(call: Call) -> Listing:
    """Pull requests whose head is this commit."""
    rows = [row for row in domain.listing(call.tx, call.repo, "all") if row["head_sha"] == call.path["ref"]]
    return Listing(rows, lambda row: shapes.pull(call.tx, call.repo, row))


def is_merged(call: Call) -> Answer:
    if _found(call)["merged_at"] is None:
        raise not_found()
    return Answer(None, 204)


def merge(call: Call) -> Json:
    sha = domain.merge(call.tx, call.repo, _found(call), call.caller, call.fields)
    return {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}


def _reviews(call: Call, row: Row) -> list[Row]:
    return call.tx.rows.all("SELECT * FROM reviews WHERE issue_id = ? ORDER BY id", row["id"])


def reviews(call: Call) -> Listing:
    row = _found(call)
    return Listing(_reviews(call, row), lambda one: shapes.review(call.tx, call.repo, one, row["number"]))


def create_review(call: Call) -> Json:
    row, event = _found(call), call.text("event", "COMMENT")
    own = row["author_id"] == call.caller.user_id
    if event not in _REVIEWS:
        raise invalid("PullRequestReview", "event")
    if own and event != "COMMENT":
        verb = "approve" if event == "APPROVE" else "request changes on"
        raise ApiError(422, f"Unprocessable Entity: Can not {verb} your own pull request")
    body = call.text("body", "")
    if event != "APPROVE" and not body.strip():
        raise custom("PullRequestReview", "Body cannot be blank")
    issue_domain.check_text("PullRequestReview", body=body)
    call.tx.rows.run(
        "INSERT INTO reviews (issue_id, user_id, state, body, commit_id, submitted_at) VALUES (?, ?, ?, ?, ?, ?)",
        row["id"], call.caller.user_id, _REVIEWS[event], body, row["head_sha"], call.tx.now,
    )  # fmt: skip
    call.tx.rows.run("DELETE FROM reviewers WHERE issue_id = ? AND user_id = ?", row["id"], call.caller.user_id)
    return shapes.review(call.tx, call.repo, _reviews(call, row)[-1], row["number"])


def requested(call: Call) -> Json:
    return {"users": shapes.pull(call.tx, call.repo, _found(call))["requested_reviewers"], "teams": []}


def request_review(call: Call) -> Answer:
    row = _found(call)
    for login in call.texts("reviewers"):
        person = issue_domain.assignable(call.tx, call.repo, login)
        if person["id"] == row["author_id"]:
            raise ApiError(422, "Review cannot be requested from pull request author.")
        call.tx.rows.run("INSERT OR IGNORE INTO reviewers VALUES (?, ?)", row["id"], person["id"])
    return Answer(shapes.pull(call.tx, call.repo, _found(call)), 201)


def withdraw_review(call: Call) -> Json:
    row = _found(call)
    for login in call.texts("reviewers"):
        person = issue_domain.assignable(call.tx, call.repo, login)
        call.tx.rows.run("DELETE FROM reviewers WHERE issue_id = ? AND user_id = ?", row["id"], person["id"])
    return shapes.pull(call.tx, call.repo, _found(call))


def nothing(call: Call) -> Listing:
    """Things of a pull request that this forge never has, such as comments on a line."""
    _found(call)
    return Listing([], lambda one: one)


def mutation_name(body: Any) -> str:
    """The GraphQL mutation that is asked for, or an empty text."""
    match = _MUTATION.match(str(body.get("query", ""))) if isinstance(body, dict) else None
    return match.group(1) if match else ""


def graphql(call: Call) -> Json:
    """The two mutations that have no REST form; everything else is an error in GraphQL's own shape."""
    name = mutation_name(call.body)
    variables = call.fields.get("variables") or {}
    asked = variables.get("input") if isinstance(variables, dict) else None
    if name not in _DRAFT or not isinstance(asked, dict):
        return _graphql_error("UNPROCESSABLE", f"Field '{name}' is not known to this forge")
    row = call.tx.rows.one(
        "SELECT i.id, i.number, i.repo_id FROM issues i WHERE 'PR_' || i.id = ? AND i.is_pull = 1",
        str(asked.get("pullRequestId")),
    )
    repo_row = row and call.tx.rows.one("SELECT * FROM repos WHERE id = ?", row["repo_id"])
    level = level_of(call.tx.rows, row["repo_id"], as_repo(repo_row).full_name, call.caller) if row and repo_row else 0
    if row is None or repo_row is None or level == 0:
        return _graphql_error("NOT_FOUND", "Could not resolve to a node with that global id")
    if level < WRITE or call.caller.scope("pull_requests") < WRITE:
        return _graphql_error("FORBIDDEN", "Resource not accessible by personal access token")
    repo = as_repo(repo_row)
    domain.set_draft(call.tx, repo, domain.get(call.tx, repo, row["number"]), _DRAFT[name], call.caller.user_id)
    answer = {"clientMutationId": asked.get("clientMutationId"), "pullRequest": {"isDraft": _DRAFT[name]}}
    return {"data": {name: answer}}


def _graphql_error(kind: str, message: str) -> Json:
    return {"data": None, "errors": [{"type": kind, "message": message}]}
