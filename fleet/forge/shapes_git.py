"""GitHub's JSON of commits, refs, files, statuses, check runs and webhooks."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from fleet.forge.bare import Commit, Person
from fleet.forge.changes import FileChange
from fleet.forge.db import Row
from fleet.forge.shapes import Json, repo_api, repo_html, repository, user_by_id
from fleet.forge.store import Repo, Tx


def _person(person: Person) -> Json:
    return {"name": person.name, "email": person.email, "date": person.date}


def git_commit(tx: Tx, repo: Repo, commit: Commit) -> Json:
    """A commit of the git database API."""
    return {
        "sha": commit.sha,
        "node_id": f"C_{commit.sha}",
        "url": repo_api(tx, repo, f"/git/commits/{commit.sha}"),
        "html_url": repo_html(tx, repo, f"/commit/{commit.sha}"),
        "author": _person(commit.author),
        "committer": _person(commit.committer),
        "message": commit.message,
        "tree": {"sha": commit.tree, "url": repo_api(tx, repo, f"/git/trees/{commit.tree}")},
        "parents": [
            {
                "sha": sha,
                "url": repo_api(tx, repo, f"/git/commits/{sha}"),
                "html_url": repo_html(tx, repo, f"/commit/{sha}"),
            }
            for sha in commit.parents
        ],
        "verification": {
            "verified": False,
            "reason": "unsigned",
            "signature": None,
            "payload": None,
            "verified_at": None,
        },
    }


def commit(tx: Tx, repo: Repo, one: Commit, files: list[FileChange] | None = None) -> Json:
    """A commit of the repository API; with ``files`` also what it changed."""
    inner = git_commit(tx, repo, one)
    url = repo_api(tx, repo, f"/commits/{one.sha}")
    data: Json = {
        "sha": one.sha,
        "node_id": inner["node_id"],
        "url": url,
        "html_url": inner["html_url"],
        "comments_url": f"{url}/comments",
        "commit": {key: inner[key] for key in ("author", "committer", "message", "tree", "verification")}
        | {"url": inner["url"], "comment_count": 0},
        "author": None,
        "committer": None,
        "parents": [
            {
                "sha": sha,
                "url": repo_api(tx, repo, f"/commits/{sha}"),
                "html_url": repo_html(tx, repo, f"/commit/{sha}"),
            }
            for sha in one.parents
        ],
    }
    if files is not None:
        added, deleted = sum(f.additions for f in files), sum(f.deletions for f in files)
        data["stats"] = {"additions": added, "deletions": deleted, "total": added + deleted}
        data["files"] = [file(tx, repo, one.sha, change) for change in files]
    return data


def file(tx: Tx, repo: Repo, head: str, change: FileChange) -> Json:
    """One file of a diff; ``patch`` is left out when there is none to show."""
    where = f"{head}/{quote(change.path)}"
    data: Json = {
        "sha": change.old_sha if change.status == "removed" else change.new_sha,
        "filename": change.path,
        "status": change.status,
        "additions": change.additions,
        "deletions": change.deletions,
        "changes": change.additions + change.deletions,
        "blob_url": repo_html(tx, repo, f"/blob/{where}"),
        "raw_url": repo_html(tx, repo, f"/raw/{where}"),
        "contents_url": repo_api(tx, repo, f"/contents/{quote(change.path)}?ref={head}"),
    }
    if change.patch is not None:
        data["patch"] = change.patch
    if change.path != change.old_path:
        data["previous_filename"] = change.old_path
    return data


def ref(tx: Tx, repo: Repo, name: str, sha: str) -> Json:
    short = name.removeprefix("refs/")
    return {
        "ref": name,
        "node_id": f"REF_{repo.id}:{name}",
        "url": repo_api(tx, repo, f"/git/refs/{quote(short)}"),
        "object": {"type": "commit", "sha": sha, "url": repo_api(tx, repo, f"/git/commits/{sha}")},
    }


def status(tx: Tx, repo: Repo, row: Row) -> Json:
    return {
        "id": row["id"],
        "node_id": f"SC_{row['id']}",
        "url": repo_api(tx, repo, f"/statuses/{row['sha']}"),
        "state": row["state"],
        "context": row["context"],
        "description": row["description"],
        "target_url": row["target_url"],
        "avatar_url": None,
        "creator": user_by_id(tx, row["creator_id"]),
        "created_at": row["created_at"],
        "updated_at": row["created_at"],
    }


def check_run(tx: Tx, repo: Repo, row: Row) -> Json:
    output: dict[str, Any] = {"title": None, "summary": None, "text": None, "annotations_count": 0}
    url = repo_api(tx, repo, f"/check-runs/{row['id']}")
    stored = json.loads(row["output"])
    stored.pop("annotations", None)
    return {
        "id": row["id"],
        "node_id": f"CR_{row['id']}",
        "url": url,
        "html_url": repo_html(tx, repo, f"/commit/{row['sha']}#check-{row['id']}"),
        "details_url": row["details_url"],
        "external_id": row["external_id"],
        "head_sha": row["sha"],
        "name": row["name"],
        "status": row["status"],
        "conclusion": row["conclusion"],
        "started_at": row["started_at"],
        "completed_at": row["completed_at"],
        "output": output | stored | {"annotations_url": f"{url}/annotations"},
        "check_suite": {"id": repo.id},
        "app": None,
        "pull_requests": _pulls_at(tx, repo, row["sha"]),
    }


def _pulls_at(tx: Tx, repo: Repo, sha: str) -> list[Json]:
    rows = tx.rows.all(
        "SELECT i.id, i.number, p.head_ref, p.head_sha, p.base_ref, p.base_sha FROM pulls p"
        " JOIN issues i ON i.id = p.issue_id WHERE p.repo_id = ? AND p.head_sha = ? AND p.open = 1",
        repo.id, sha,
    )  # fmt: skip
    place = {"id": repo.id, "name": repo.name, "url": repo_api(tx, repo)}
    return [
        {
            "id": row["id"],
            "number": row["number"],
            "url": repo_api(tx, repo, f"/pulls/{row['number']}"),
            "head": {"ref": row["head_ref"], "sha": row["head_sha"], "repo": place},
            "base": {"ref": row["base_ref"], "sha": row["base_sha"], "repo": place},
        }
        for row in rows
    ]


def hook(tx: Tx, repo: Repo, row: Row) -> Json:
    """A webhook; its secret is never shown."""
    url = repo_api(tx, repo, f"/hooks/{row['id']}")
    secret = {"secret": "********"} if row["secret"] else {}
    return {
        "type": "Repository",
        "id": row["id"],
        "name": "web",
        "active": bool(row["active"]),
        "events": json.loads(row["events"]),
        "config": {"content_type": row["content_type"], "insecure_ssl": "0", "url": row["url"]} | secret,
        "url": url,
        "test_url": f"{url}/test",
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "last_response": {"code": None, "status": "unused", "message": None},
    }


def delivery(row: Row, full: bool = False) -> Json:
    """One entry of the delivery log."""
    data: Json = {
        "id": row["id"],
        "guid": row["guid"],
        "delivered_at": row["delivered_at"],
        "redelivery": bool(row["redelivery"]),
        "duration": row["duration"],
        "status": row["status"],
        "status_code": row["status_code"],
        "event": row["event"],
        "action": row["action"],
        "installation_id": None,
        "repository_id": None,
    }
    if full:
        data["request"] = {"headers": {"X-GitHub-Event": row["event"]}, "payload": json.loads(row["body"])}
        data["response"] = {"headers": {}, "payload": row["response"]}
    return data


__all__ = ["check_run", "commit", "delivery", "file", "git_commit", "hook", "ref", "repository", "status"]
