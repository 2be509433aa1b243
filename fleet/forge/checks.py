"""Commit statuses and check runs, and what a commit's checks amount to."""

from __future__ import annotations

import json
from typing import Any

from fleet.forge import hooks, shapes_git
from fleet.forge.db import Row
from fleet.forge.errors import custom, invalid, not_found
from fleet.forge.store import Repo, Tx

MAX_DESCRIPTION = 140
STATES = ("error", "failure", "pending", "success")
RUN_STATES = ("queued", "in_progress", "completed")
CONCLUSIONS = ("success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required", "stale")


def add_status(tx: Tx, repo: Repo, sha: str, asked: dict[str, Any], creator_id: int) -> Row:
    """Adds a status to a commit. Raises 422 for an unknown commit or state."""
    if not tx.bare(repo).has(sha):
        raise custom("Status", f"No commit found for SHA: {sha}")
    state = asked.get("state")
    if state not in STATES:
        raise invalid("Status", "state")
    if len(str(asked.get("description") or "")) > MAX_DESCRIPTION:
        raise custom("Status", f"description is too long (maximum is {MAX_DESCRIPTION} characters)")
    row_id = tx.rows.run(
        "INSERT INTO statuses (repo_id, sha, state, context, description, target_url, creator_id, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        repo.id, sha, state, asked.get("context") or "default", asked.get("description"), asked.get("target_url"),
        creator_id, tx.now,
    )  # fmt: skip
    row = tx.rows.one("SELECT * FROM statuses WHERE id = ?", row_id)
    assert row is not None
    hooks.emit(tx, repo, "status", None, shapes_git.status(tx, repo, row) | {"sha": sha}, creator_id)
    return row


def statuses(tx: Tx, repo: Repo, sha: str) -> list[Row]:
    """All of a commit, newest first."""
    return tx.rows.all("SELECT * FROM statuses WHERE repo_id = ? AND sha = ? ORDER BY id DESC", repo.id, sha)


def latest_statuses(tx: Tx, repo: Repo, sha: str) -> list[Row]:
    """The newest of each context."""
    newest: dict[str, Row] = {}
    for row in statuses(tx, repo, sha):
        newest.setdefault(row["context"], row)
    return list(newest.values())


def combined(rows: list[Row]) -> str:
    """What the newest statuses amount to: failure over pending over success; none is pending."""
    states = {row["state"] for row in rows}
    if states & {"error", "failure"}:
        return "failure"
    return "success" if states == {"success"} else "pending"


def _checked(tx: Tx, asked: dict[str, Any], before: Row | None) -> dict[str, Any]:
    """The columns a create (``before`` None) or an update asks for."""
    conclusion = asked.get("conclusion")
    status = asked.get("status") or ("completed" if conclusion else before["status"] if before else "queued")
    conclusion = conclusion or (before["conclusion"] if before and status == "completed" else None)
    if status not in RUN_STATES:
        raise invalid("CheckRun", "status")
    if conclusion is not None and conclusion not in CONCLUSIONS:
        raise invalid("CheckRun", "conclusion")
    if status == "completed" and conclusion is None:
        raise invalid("CheckRun", "conclusion", "missing_field")
    output = asked.get("output") or {}
    if output and not (output.get("title") and output.get("summary") is not None):
        raise invalid("CheckRun", "output", "missing_field")
    old = before or {"started_at": None, "completed_at": None, "output": "{}"}
    return {
        "name": asked.get("name") or old.get("name"),
        "status": status,
        "conclusion": conclusion,
        "details_url": asked.get("details_url") or old.get("details_url"),
        "external_id": asked.get("external_id") or old.get("external_id") or "",
        "output": json.dumps(json.loads(old["output"]) | output),
        "started_at": asked.get("started_at") or old["started_at"] or (None if status == "queued" else tx.now),
        "completed_at": asked.get("completed_at") or (old["completed_at"] or tx.now if status == "completed" else None),
    }


def create_run(tx: Tx, repo: Repo, asked: dict[str, Any], creator_id: int) -> Row:
    """Adds a check run. Raises 422 for an unknown commit, a missing name, or a completed one without conclusion."""
    sha = str(asked.get("head_sha") or "")
    if not asked.get("name"):
        raise invalid("CheckRun", "name", "missing_field")
    if not tx.bare(repo).has(sha):
        raise custom("CheckRun", f"No commit found for SHA: {sha}")
    columns = _checked(tx, asked, None) | {"repo_id": repo.id, "sha": sha, "creator_id": creator_id}
    marks = ", ".join("?" for _ in columns)
    run_id = tx.rows.run(f"INSERT INTO check_runs ({', '.join(columns)}) VALUES ({marks})", *columns.values())
    row = get_run(tx, repo, run_id)
    _tell(tx, repo, row, "created", creator_id)
    return row


def update_run(tx: Tx, repo: Repo, row: Row, asked: dict[str, Any], actor_id: int) -> Row:
    """Changes a check run; tells ``completed`` when it ends."""
    columns = _checked(tx, asked, row)
    pairs = ", ".join(f"{name} = ?" for name in columns)
    tx.rows.run(f"UPDATE check_runs SET {pairs} WHERE id = ?", *columns.values(), row["id"])
    fresh = get_run(tx, repo, row["id"])
    if fresh["status"] == "completed":
        _tell(tx, repo, fresh, "completed", actor_id)
    return fresh


def get_run(tx: Tx, repo: Repo, run_id: int) -> Row:
    """Raises 404."""
    row = tx.rows.one("SELECT * FROM check_runs WHERE repo_id = ? AND id = ?", repo.id, run_id)
    if row is None:
        raise not_found()
    return row


def runs(tx: Tx, repo: Repo, sha: str, name: str = "", status: str = "", newest: bool = True) -> list[Row]:
    """Check runs of a commit; ``newest``: one per name."""
    rows = tx.rows.all("SELECT * FROM check_runs WHERE repo_id = ? AND sha = ? ORDER BY id DESC", repo.id, sha)
    seen: set[str] = set()
    kept = []
    for row in rows:
        if newest and row["name"] in seen:
            continue
        seen.add(row["name"])
        if (not name or row["name"] == name) and (not status or row["status"] == status):
            kept.append(row)
    return kept[::-1]


def _tell(tx: Tx, repo: Repo, row: Row, action: str, actor_id: int) -> None:
    hooks.emit(tx, repo, "check_run", action, {"check_run": shapes_git.check_run(tx, repo, row)}, actor_id)
