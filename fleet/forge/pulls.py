"""Pull requests: opening, editing, merging, with GitHub's refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fleet.forge import issues, refs, shapes
from fleet.forge.access import Caller
from fleet.forge.bare import Commit, Person
from fleet.forge.changes import FileChange, PatchLimits, changed_files
from fleet.forge.db import Row
from fleet.forge.errors import ApiError, custom, invalid, not_found
from fleet.forge.store import Repo, Tx

_JOIN = f"{refs.PULL} FROM issues i JOIN pulls p ON p.issue_id = i.id WHERE p.repo_id = ?"
_MAX_COMMITS = 250


def get(tx: Tx, repo: Repo, number: int) -> Row:
    """The pull request. Raises 404."""
    row = tx.rows.one(f"{_JOIN} AND i.number = ?", repo.id, number)
    if row is None:
        raise not_found()
    return row


def listing(tx: Tx, repo: Repo, state: str = "open", head: str = "", base: str = "") -> list[Row]:
    """Newest first. ``head`` is a branch name or ``owner:branch``."""
    owner, colon, branch = head.rpartition(":")
    if colon and owner.lower() != repo.owner.lower():
        return []
    sql: str = _JOIN
    args: list[Any] = [repo.id]
    for column, value in (("p.head_ref", branch), ("p.base_ref", base), ("i.state", "" if state == "all" else state)):
        if value:
            sql += f" AND {column} = ?"
            args.append(value)
    return tx.rows.all(f"{sql} ORDER BY i.number DESC", *args)


def create(tx: Tx, repo: Repo, caller: Caller, title: str, body: str | None, head: str, base: str, draft: bool) -> Row:
    """Opens a pull request within the repository. Raises 422 for a second one, an empty one and unknown branches."""
    owner, colon, branch = head.rpartition(":")
    bare = tx.bare(repo)
    head_sha, base_sha = bare.branch(branch), bare.branch(base)
    if head_sha is None or (colon and owner.lower() != repo.owner.lower()):
        raise invalid("PullRequest", "head")
    if base_sha is None:
        raise invalid("PullRequest", "base")
    _refuse_second(tx, repo, branch, base)
    _refuse_empty(tx, repo, base, base_sha, branch, head_sha)
    row = issues.insert(tx, repo, caller.user_id, title, body, is_pull=True)
    tx.rows.run(
        "INSERT INTO pulls (issue_id, repo_id, open, head_ref, head_sha, base_ref, base_sha, draft)"
        " VALUES (?, ?, 1, ?, ?, ?, ?, ?)",
        row["id"], repo.id, branch, head_sha, base, base_sha, int(draft),
    )  # fmt: skip
    refs.keep_head(tx, repo, row["number"], head_sha)
    issues.tell(tx, repo, row, "opened", caller.user_id)
    return get(tx, repo, row["number"])


def _refuse_second(tx: Tx, repo: Repo, branch: str, base: str) -> None:
    if any(row["base_ref"] == base for row in listing(tx, repo, "open", head=branch)):
        raise custom("PullRequest", f"A pull request already exists for {repo.owner}:{branch}.")


def _refuse_empty(tx: Tx, repo: Repo, base: str, base_sha: str, branch: str, head_sha: str) -> None:
    bare = tx.bare(repo)
    if bare.merge_base(base_sha, head_sha) is None:
        raise custom("PullRequest", f"The {branch} branch has no history in common with {base}")
    if bare.is_ancestor(head_sha, base_sha):
        raise custom("PullRequest", f"No commits between {base} and {branch}")


def edit(tx: Tx, repo: Repo, row: Row, caller: Caller, changes: dict[str, Any]) -> Row:
    """Changes title, body, base or state; only keys that are present count."""
    if "base" in changes and changes["base"] != row["base_ref"]:
        _change_base(tx, repo, row, str(changes["base"]))
    title, body = changes.get("title"), changes.get("body")
    issues.edit_text(tx, repo, row, title, "" if "body" in changes and body is None else body, caller.user_id)
    state = changes.get("state")
    if state is not None:
        set_state(tx, repo, get(tx, repo, row["number"]), str(state), caller.user_id)
    return get(tx, repo, row["number"])


def _change_base(tx: Tx, repo: Repo, row: Row, base: str) -> None:
    base_sha = tx.bare(repo).branch(base)
    if base_sha is None:
        raise invalid("PullRequest", "base")
    if row["state"] != "open":
        raise custom("PullRequest", "Cannot change the base branch of a closed pull request.")
    _refuse_second(tx, repo, row["head_ref"], base)
    _refuse_empty(tx, repo, base, base_sha, row["head_ref"], row["head_sha"])
    tx.rows.run("UPDATE pulls SET base_ref = ?, base_sha = ? WHERE issue_id = ?", base, base_sha, row["id"])


def set_state(tx: Tx, repo: Repo, row: Row, state: str, actor_id: int) -> None:
    """Closes, or reopens while its branches are there and unchanged in kind and no other one took its place."""
    if state not in ("open", "closed"):
        raise invalid("PullRequest", "state")
    if state == row["state"]:
        return
    if state == "closed":
        refs.end(tx, repo, row, actor_id)
        return
    _reopen(tx, repo, row, actor_id)


def _reopen(tx: Tx, repo: Repo, row: Row, actor_id: int) -> None:
    bare = tx.bare(repo)
    head, base = bare.branch(row["head_ref"]), bare.branch(row["base_ref"])
    if row["merged_at"] is not None:
        raise custom("PullRequest", "state cannot be changed. The pull request is merged.")
    for name, sha in ((row["head_ref"], head), (row["base_ref"], base)):
        if sha is None:
            raise custom("PullRequest", f"state cannot be changed. The {name} branch has been deleted.")
    assert head is not None and base is not None
    if not bare.is_ancestor(row["head_sha"], head):
        raise custom(
            "PullRequest", f"state cannot be changed. The {row['head_ref']} branch was force-pushed or recreated."
        )
    if any(one["base_ref"] == row["base_ref"] for one in listing(tx, repo, "open", head=row["head_ref"])):
        raise custom(
            "PullRequest",
            "state cannot be changed. There is already an open pull request"
            f" from {row['head_ref']} to {row['base_ref']}.",
        )
    _refuse_empty(tx, repo, row["base_ref"], base, row["head_ref"], head)
    tx.rows.run("UPDATE pulls SET open = 1, head_sha = ?, base_sha = ? WHERE issue_id = ?", head, base, row["id"])
    refs.keep_head(tx, repo, row["number"], head)
    issues.set_state(tx, repo, row, "open", None, actor_id)


def set_draft(tx: Tx, repo: Repo, row: Row, draft: bool, actor_id: int) -> None:
    """Marks ready for review, or back to draft."""
    if row["state"] != "open":
        raise ApiError(422, "The pull request is closed.")
    if bool(row["draft"]) == draft:
        return
    tx.rows.run("UPDATE pulls SET draft = ? WHERE issue_id = ?", int(draft), row["id"])
    issues.note(tx, row, "convert_to_draft" if draft else "ready_for_review", actor_id)
    issues.tell(tx, repo, row, "converted_to_draft" if draft else "ready_for_review", actor_id)


def merge(tx: Tx, repo: Repo, row: Row, caller: Caller, asked: dict[str, Any]) -> str:
    """Merges into the base branch and returns the new commit. Raises 405 when it cannot be, 409 when the head moved."""
    if row["state"] != "open" or row["draft"]:
        what = "is still a draft" if row["state"] == "open" else "is closed"
        raise ApiError(405, f"Pull Request {what}" if row["draft"] else "Pull Request is not mergeable")
    bare = tx.bare(repo)
    head, base = bare.branch(row["head_ref"]), bare.branch(row["base_ref"])
    if head is None or base is None:
        raise ApiError(405, "Pull Request is not mergeable")
    if head != row["head_sha"] or asked.get("sha") not in (None, head):
        raise ApiError(409, "Head branch was modified. Review and try the merge again.")
    method = asked.get("merge_method") or "merge"
    if method not in ("merge", "squash"):
        raise ApiError(405, f"{str(method).capitalize()} merges are not allowed on this repository.")
    merged = bare.merge_tree(base, head)
    if merged.conflicts:
        raise ApiError(405, "Pull Request is not mergeable")
    who = Person(caller.name, caller.email, tx.now)
    parents = [base] if method == "squash" else [base, head]
    sha = bare.commit_tree(merged.tree, parents, _message(repo, row, str(method), asked), who)
    if not bare.update_ref(f"refs/heads/{row['base_ref']}", sha, base):
        raise ApiError(409, "Base branch was modified. Review and try the merge again.")
    if method == "squash":
        refs.mark_merged(tx, repo, row, sha, caller.user_id)
    refs.sync(tx, repo, caller.user_id)
    return sha


def _message(repo: Repo, row: Row, method: str, asked: dict[str, Any]) -> str:
    titles = {
        "merge": f"Merge pull request #{row['number']} from {repo.owner}/{row['head_ref']}",
        "squash": f"{row['title']} (#{row['number']})",
    }
    title = asked.get("commit_title") or titles[method]
    body = asked.get("commit_message") or (row["title"] if method == "merge" else row["body"] or "")
    return f"{title}\n\n{body}".rstrip() + "\n"


def start_of(tx: Tx, repo: Repo, row: Row) -> str:
    """The commit the changes are shown against: the merge base with the base branch."""
    return tx.bare(repo).merge_base(row["base_sha"], row["head_sha"]) or str(row["base_sha"])


def files(tx: Tx, repo: Repo, row: Row, limits: PatchLimits | None) -> list[FileChange]:
    return changed_files(tx.bare(repo), start_of(tx, repo, row), row["head_sha"], limits)


def commits(tx: Tx, repo: Repo, row: Row) -> list[Commit]:
    return tx.bare(repo).between(row["base_sha"], row["head_sha"], _MAX_COMMITS)


def conflicts(tx: Tx, repo: Repo, row: Row) -> Sequence[str] | None:
    """Paths in conflict with the base branch as it is now; None when it is not open."""
    base = tx.bare(repo).branch(row["base_ref"])
    if row["state"] != "open" or base is None:
        return None
    return tx.bare(repo).merge_tree(base, row["head_sha"]).conflicts


def full(tx: Tx, repo: Repo, row: Row) -> dict[str, Any]:
    """The JSON of one pull request, with counts and whether it can be merged."""
    changed = files(tx, repo, row, None)
    clash = conflicts(tx, repo, row)
    state = "unknown" if clash is None else "dirty" if clash else "draft" if row["draft"] else "clean"
    talk = tx.rows.one("SELECT COUNT(*) AS n FROM comments WHERE issue_id = ?", row["id"])
    return shapes.pull(tx, repo, row) | {
        "merged": row["merged_at"] is not None,
        "merged_by": shapes.user_by_id(tx, row["merged_by"]),
        "mergeable": None if clash is None else not clash,
        "rebaseable": False,
        "mergeable_state": state,
        "comments": talk["n"] if talk else 0,
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": len(commits(tx, repo, row)),
        "additions": sum(change.additions for change in changed),
        "deletions": sum(change.deletions for change in changed),
        "changed_files": len(changed),
    }
