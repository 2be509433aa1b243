"""Brings the record in line with the git refs: push events, pull requests that follow, close or merge.

Level-triggered: it compares what git has with what was last recorded, whoever changed it and whenever. So a server
killed between git's update and its own commit catches up at its next start.
"""

from __future__ import annotations

from fleet.forge import hooks, issues, shapes_git
from fleet.forge.db import Row
from fleet.forge.gitcmd import NOBODY
from fleet.forge.shapes import repo_html
from fleet.forge.store import Repo, Tx

_PUSH_COMMITS = 20
_CLOSING_COMMITS = 250
PULL = "SELECT i.*, p.head_ref, p.head_sha, p.base_ref, p.base_sha, p.draft, p.merged_at, p.merged_by, p.merge_sha"


def recorded(tx: Tx, repo: Repo) -> dict[str, str]:
    return {row["name"]: row["sha"] for row in tx.rows.all("SELECT name, sha FROM refs WHERE repo_id = ?", repo.id)}


def sync(tx: Tx, repo: Repo, actor_id: int, closing: bool = True) -> list[str]:
    """Records every ref that changed and does what follows from it; returns their names.

    ``closing`` False: commit messages close no issue (history that was imported, not pushed).
    """
    before = recorded(tx, repo)
    after = tx.bare(repo).refs()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in changed:
        old, new = before.get(name, NOBODY), after.get(name, NOBODY)
        if new == NOBODY:
            tx.rows.run("DELETE FROM refs WHERE repo_id = ? AND name = ?", repo.id, name)
        else:
            tx.rows.run("INSERT OR REPLACE INTO refs VALUES (?, ?, ?)", repo.id, name, new)
        _tell_push(tx, repo, name, old, new, actor_id)
    for name in changed:
        if name.startswith("refs/heads/"):
            branch = name.removeprefix("refs/heads/")
            old, new = before.get(name, NOBODY), after.get(name, NOBODY)
            _follow(tx, repo, branch, new, actor_id)
            if closing and branch == repo.default_branch and NOBODY not in (old, new):
                _close_by_commits(tx, repo, old, new, actor_id)
    return changed


def _tell_push(tx: Tx, repo: Repo, name: str, old: str, new: str, actor_id: int) -> None:
    if not hooks.wanted_by(tx, repo, "push"):
        return  # the commits are not read for nobody
    bare = tx.bare(repo)
    whole = NOBODY not in (old, new)
    commits = bare.between(old, new, _PUSH_COMMITS) if whole else []
    head = bare.commit(new) if new != NOBODY else None
    pusher = tx.user_by_id(actor_id)
    payload = {
        "ref": name,
        "before": old,
        "after": new,
        "created": old == NOBODY,
        "deleted": new == NOBODY,
        "forced": whole and not bare.is_ancestor(old, new),
        "base_ref": None,
        "compare": repo_html(tx, repo, f"/compare/{old[:12]}...{new[:12]}"),
        "commits": [shapes_git.git_commit(tx, repo, one) | {"id": one.sha} for one in commits],
        "head_commit": None if head is None else shapes_git.git_commit(tx, repo, head) | {"id": head.sha},
        "pusher": {"name": pusher["login"], "email": pusher["email"]},
    }
    hooks.emit(tx, repo, "push", None, payload, actor_id)


def _close_by_commits(tx: Tx, repo: Repo, old: str, new: str, actor_id: int) -> None:
    for one in tx.bare(repo).between(old, new, _CLOSING_COMMITS):
        issues.close_by_text(tx, repo, one.message, actor_id)


def _follow(tx: Tx, repo: Repo, branch: str, new: str, actor_id: int) -> None:
    """Open pull requests of and onto a branch that is now at ``new``."""
    rows = tx.rows.all(
        f"{PULL} FROM issues i JOIN pulls p ON p.issue_id = i.id"
        " WHERE p.repo_id = ? AND p.open = 1 AND ? IN (p.head_ref, p.base_ref)",
        repo.id, branch,
    )  # fmt: skip
    bare = tx.bare(repo)
    for row in rows:
        if new == NOBODY:
            end(tx, repo, row, actor_id)
        elif row["head_ref"] == branch and row["head_sha"] != new:
            base = bare.branch(row["base_ref"]) or row["base_sha"]
            _synchronize(tx, repo, row, new, base, actor_id)
            if bare.is_ancestor(new, base):  # nothing is left to be merged
                end(tx, repo, row | {"head_sha": new}, actor_id)
        elif row["base_ref"] == branch and bare.is_ancestor(row["head_sha"], new):
            mark_merged(tx, repo, row, new, actor_id)


def _synchronize(tx: Tx, repo: Repo, row: Row, new: str, base: str, actor_id: int) -> None:
    tx.rows.run("UPDATE pulls SET head_sha = ?, base_sha = ? WHERE issue_id = ?", new, base, row["id"])
    tx.rows.run("UPDATE issues SET updated_at = ? WHERE id = ?", tx.now, row["id"])
    keep_head(tx, repo, row["number"], new)
    if not tx.bare(repo).is_ancestor(row["head_sha"], new):
        issues.note(tx, row, "head_ref_force_pushed", actor_id)
    issues.tell(tx, repo, row, "synchronize", actor_id, {"before": row["head_sha"], "after": new})


def keep_head(tx: Tx, repo: Repo, number: int, sha: str) -> None:
    """Keeps the head reachable as ``refs/pull/<n>/head``, as GitHub does."""
    tx.bare(repo).update_ref(f"refs/pull/{number}/head", sha, None)


def end(tx: Tx, repo: Repo, row: Row, actor_id: int) -> None:
    """Closes a pull request without a merge."""
    tx.rows.run("UPDATE pulls SET open = 0 WHERE issue_id = ?", row["id"])
    issues.set_state(tx, repo, row, "closed", None, actor_id)


def mark_merged(tx: Tx, repo: Repo, row: Row, merge_sha: str, actor_id: int) -> None:
    """Records that the pull request is in its base, and closes what its text closes if that is the default branch."""
    tx.rows.run(
        "UPDATE pulls SET open = 0, draft = 0, merged_at = ?, merged_by = ?, merge_sha = ? WHERE issue_id = ?",
        tx.now, actor_id, merge_sha, row["id"],
    )  # fmt: skip
    issues.note(tx, row, "merged", actor_id, {"commit_id": merge_sha})
    issues.set_state(tx, repo, row, "closed", None, actor_id)
    if row["base_ref"] == repo.default_branch:
        issues.close_by_text(tx, repo, row["body"] or "", actor_id)
