"""Issues and what hangs on them: labels, comments, timeline. Pull requests are issues here, as on GitHub."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from fleet.forge import hooks, shapes
from fleet.forge.db import Row
from fleet.forge.errors import custom, invalid, not_found
from fleet.forge.store import Repo, Tx

MAX_BODY = 65536
MAX_TITLE = 256
_CLOSES = re.compile(r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+(?:([\w.-]+/[\w.-]+))?#(\d+)\b", re.IGNORECASE)
_COLOR = re.compile(r"^[0-9a-fA-F]{6}$")


def get(tx: Tx, repo: Repo, number: int) -> Row:
    """The issue or pull request. Raises 404."""
    row = tx.rows.one("SELECT * FROM issues WHERE repo_id = ? AND number = ?", repo.id, number)
    if row is None:
        raise not_found()
    return row


def check_text(resource: str, title: str | None = None, body: str | None = None) -> None:
    """Raises 422 for an empty or over-long title, or an over-long body."""
    if title is not None and not title.strip():
        raise invalid(resource, "title", "missing_field")
    if title is not None and len(title) > MAX_TITLE:
        raise custom(resource, f"title is too long (maximum is {MAX_TITLE} characters)")
    if body is not None and len(body) > MAX_BODY:
        raise custom(resource, f"body is too long (maximum is {MAX_BODY} characters)")


def insert(tx: Tx, repo: Repo, author_id: int, title: str, body: str | None, is_pull: bool = False) -> Row:
    """Adds an issue under the next number of the repository."""
    check_text("PullRequest" if is_pull else "Issue", title, body)
    tx.rows.run("UPDATE repos SET next_number = next_number + 1, updated_at = ? WHERE id = ?", tx.now, repo.id)
    counter = tx.rows.one("SELECT next_number - 1 AS n FROM repos WHERE id = ?", repo.id)
    assert counter is not None
    tx.rows.run(
        "INSERT INTO issues (repo_id, number, is_pull, title, body, state, author_id, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?)",
        repo.id, counter["n"], int(is_pull), title, body, author_id, tx.now, tx.now,
    )  # fmt: skip
    return get(tx, repo, counter["n"])


def create(tx: Tx, repo: Repo, author_id: int, title: str, body: str | None, labels: Sequence[str] = ()) -> Row:
    """Opens an issue; its labels are set in the same step."""
    row = insert(tx, repo, author_id, title, body)
    tell(tx, repo, row, "opened", author_id)
    add_labels(tx, repo, row, labels, author_id)
    return get(tx, repo, row["number"])


def tell(tx: Tx, repo: Repo, row: Row, action: str, actor_id: int, extra: dict[str, Any] | None = None) -> None:
    """Emits ``issues`` or ``pull_request``, whichever the row is."""
    if row["is_pull"]:
        joined = tx.rows.one(
            "SELECT i.*, p.* FROM issues i JOIN pulls p ON p.issue_id = i.id WHERE i.id = ?", row["id"]
        )
        assert joined is not None
        payload = {"number": row["number"], "pull_request": shapes.pull(tx, repo, joined)}
        payload["pull_request"]["merged"] = joined["merged_at"] is not None
        hooks.emit(tx, repo, "pull_request", action, payload | (extra or {}), actor_id)
    else:
        fresh = get(tx, repo, row["number"])
        hooks.emit(tx, repo, "issues", action, {"issue": shapes.issue(tx, repo, fresh)} | (extra or {}), actor_id)


def note(tx: Tx, row: Row, event: str, actor_id: int, data: dict[str, Any] | None = None) -> None:
    """Adds to the timeline."""
    tx.rows.run(
        "INSERT INTO timeline (issue_id, event, actor_id, data, created_at) VALUES (?, ?, ?, ?, ?)",
        row["id"], event, actor_id, json.dumps(data or {}), tx.now,
    )  # fmt: skip
    tx.rows.run("UPDATE issues SET updated_at = ? WHERE id = ?", tx.now, row["id"])


def edit_text(tx: Tx, repo: Repo, row: Row, title: str | None, body: str | None, actor_id: int) -> None:
    """Changes title or body (None: unchanged)."""
    check_text("Issue", title, body)
    changes: dict[str, Any] = {}
    if title is not None and title != row["title"]:
        changes["title"] = {"from": row["title"]}
        note(tx, row, "renamed", actor_id, {"rename": {"from": row["title"], "to": title}})
    if body is not None and body != row["body"]:
        changes["body"] = {"from": row["body"]}
    if not changes:
        return
    tx.rows.run(
        "UPDATE issues SET title = ?, body = ?, updated_at = ? WHERE id = ?",
        row["title"] if title is None else title, row["body"] if body is None else body, tx.now, row["id"],
    )  # fmt: skip
    tell(tx, repo, row, "edited", actor_id, {"changes": changes})


def set_state(tx: Tx, repo: Repo, row: Row, state: str, reason: str | None, actor_id: int) -> None:
    """Closes or reopens an issue (pull requests have rules of their own in ``pulls``)."""
    if state not in ("open", "closed"):
        raise invalid("Issue", "state")
    if reason not in (None, "completed", "not_planned", "reopened", "duplicate"):
        raise invalid("Issue", "state_reason")
    if state == row["state"]:
        return
    if state == "closed":
        tx.rows.run(
            "UPDATE issues SET state = 'closed', state_reason = ?, closed_at = ?, closed_by = ? WHERE id = ?",
            None if row["is_pull"] else reason or "completed", tx.now, actor_id, row["id"],
        )  # fmt: skip
    else:
        tx.rows.run(
            "UPDATE issues SET state = 'open', state_reason = ?, closed_at = NULL, closed_by = NULL WHERE id = ?",
            None if row["is_pull"] else "reopened", row["id"],
        )  # fmt: skip
    action = "closed" if state == "closed" else "reopened"
    note(tx, row, action, actor_id)
    tell(tx, repo, row, action, actor_id)


def closed_by_text(repo: Repo, text: str) -> list[int]:
    """Numbers of the issues of this repository that ``text`` closes (``Closes #7`` and its kin)."""
    found = {int(number) for place, number in _CLOSES.findall(text) if place.lower() in ("", repo.full_name.lower())}
    return sorted(found)


def close_by_text(tx: Tx, repo: Repo, text: str, actor_id: int) -> None:
    """Closes the open issues that ``text`` names."""
    for number in closed_by_text(repo, text):
        row = tx.rows.one("SELECT * FROM issues WHERE repo_id = ? AND number = ? AND is_pull = 0", repo.id, number)
        if row is not None and row["state"] == "open":
            set_state(tx, repo, row, "closed", "completed", actor_id)


def label_row(tx: Tx, repo: Repo, name: str) -> Row | None:
    return tx.rows.one("SELECT * FROM labels WHERE repo_id = ? AND name = ?", repo.id, name)


def create_label(tx: Tx, repo: Repo, name: str, color: str = "ededed", description: str | None = None) -> Row:
    """Adds a label. Raises 422 when it exists or is not a name or colour."""
    if not name.strip() or len(name) > 50:
        raise invalid("Label", "name", "invalid")
    if not _COLOR.match(color):
        raise invalid("Label", "color")
    if label_row(tx, repo, name) is not None:
        raise invalid("Label", "name", "already_exists")
    tx.rows.run(
        "INSERT INTO labels (repo_id, name, color, description) VALUES (?, ?, ?, ?)", repo.id, name, color, description
    )
    row = label_row(tx, repo, name)
    assert row is not None
    return row


def _labels(tx: Tx, row: Row) -> list[Row]:
    return tx.rows.all(
        "SELECT l.* FROM labels l JOIN issue_labels il ON il.label_id = l.id WHERE il.issue_id = ? ORDER BY l.id",
        row["id"],
    )


def add_labels(tx: Tx, repo: Repo, row: Row, names: Sequence[str], actor_id: int) -> None:
    """Adds labels, making unknown ones, and tells ``labeled`` only for those that were not there."""
    present = {label["id"] for label in _labels(tx, row)}
    for name in names:
        label = label_row(tx, repo, name) or create_label(tx, repo, name)
        if label["id"] not in present:
            present.add(label["id"])
            tx.rows.run("INSERT INTO issue_labels VALUES (?, ?)", row["id"], label["id"])
            _tell_label(tx, repo, row, label, "labeled", actor_id)


def remove_label(tx: Tx, repo: Repo, row: Row, name: str, actor_id: int) -> None:
    """Takes a label off. Raises 404 when it is not on."""
    label = next((one for one in _labels(tx, row) if one["name"].lower() == name.lower()), None)
    if label is None:
        raise not_found()
    tx.rows.run("DELETE FROM issue_labels WHERE issue_id = ? AND label_id = ?", row["id"], label["id"])
    _tell_label(tx, repo, row, label, "unlabeled", actor_id)


def set_labels(tx: Tx, repo: Repo, row: Row, names: Sequence[str], actor_id: int) -> None:
    """Makes exactly ``names`` the labels."""
    wanted = {name.lower() for name in names}
    for label in _labels(tx, row):
        if label["name"].lower() not in wanted:
            remove_label(tx, repo, row, label["name"], actor_id)
    add_labels(tx, repo, row, names, actor_id)


def _tell_label(tx: Tx, repo: Repo, row: Row, label: Row, action: str, actor_id: int) -> None:
    note(tx, row, action, actor_id, {"label": {"name": label["name"], "color": label["color"]}})
    tell(tx, repo, row, action, actor_id, {"label": shapes.label(tx, repo, label)})


def get_comment(tx: Tx, repo: Repo, comment_id: int) -> Row:
    """The comment with its issue's number. Raises 404."""
    row = tx.rows.one(
        "SELECT c.*, i.number, i.is_pull FROM comments c JOIN issues i ON i.id = c.issue_id"
        " WHERE i.repo_id = ? AND c.id = ?",
        repo.id, comment_id,
    )  # fmt: skip
    if row is None:
        raise not_found()
    return row


def comments(tx: Tx, row: Row) -> list[Row]:
    return tx.rows.all(
        "SELECT c.*, i.number, i.is_pull FROM comments c JOIN issues i ON i.id = c.issue_id"
        " WHERE i.id = ? ORDER BY c.id",
        row["id"],
    )


def check_comment(body: str) -> None:
    """Raises 422 for an empty or over-long comment."""
    if not body.strip():
        raise custom("IssueComment", "Body cannot be blank")
    check_text("IssueComment", body=body)


def add_comment(tx: Tx, repo: Repo, row: Row, author_id: int, body: str) -> Row:
    """Adds a comment."""
    check_comment(body)
    comment_id = tx.rows.run(
        "INSERT INTO comments (issue_id, author_id, body, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
        row["id"], author_id, body, tx.now, tx.now,
    )  # fmt: skip
    tx.rows.run("UPDATE issues SET updated_at = ? WHERE id = ?", tx.now, row["id"])
    fresh = get_comment(tx, repo, comment_id)
    _tell_comment(tx, repo, row, fresh, "created", author_id)
    return fresh


def edit_comment(tx: Tx, repo: Repo, comment: Row, body: str, actor_id: int) -> Row:
    """Replaces the text of a comment."""
    check_comment(body)
    tx.rows.run("UPDATE comments SET body = ?, updated_at = ? WHERE id = ?", body, tx.now, comment["id"])
    fresh = get_comment(tx, repo, comment["id"])
    changes = {"changes": {"body": {"from": comment["body"]}}}
    _tell_comment(tx, repo, get(tx, repo, comment["number"]), fresh, "edited", actor_id, changes)
    return fresh


def delete_comment(tx: Tx, repo: Repo, comment: Row, actor_id: int) -> None:
    tx.rows.run("DELETE FROM comments WHERE id = ?", comment["id"])
    _tell_comment(tx, repo, get(tx, repo, comment["number"]), comment, "deleted", actor_id)


def _tell_comment(
    tx: Tx, repo: Repo, row: Row, comment: Row, action: str, actor_id: int, extra: dict[str, Any] | None = None
) -> None:
    issue = shapes.issue(tx, repo, get(tx, repo, row["number"]))
    payload = {"issue": issue, "comment": shapes.comment(tx, repo, comment)} | (extra or {})
    hooks.emit(tx, repo, "issue_comment", action, payload, actor_id)


def set_assignees(tx: Tx, repo: Repo, row: Row, logins: Sequence[str]) -> None:
    """Makes exactly these the assignees. Raises 422 for somebody without access."""
    people = [assignable(tx, repo, login) for login in logins]
    tx.rows.run("DELETE FROM assignees WHERE issue_id = ?", row["id"])
    for person in people:
        tx.rows.run("INSERT OR IGNORE INTO assignees VALUES (?, ?)", row["id"], person["id"])


def assignable(tx: Tx, repo: Repo, login: str) -> Row:
    """The user, who must have been given access. Raises 422."""
    person = tx.user(login)
    known = person and tx.rows.one("SELECT 1 FROM permissions WHERE repo_id = ? AND user_id = ?", repo.id, person["id"])
    if person is None or known is None:
        raise invalid("Issue", "assignees")
    return person
