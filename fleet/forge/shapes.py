"""GitHub's JSON of users, repositories, issues and pull requests. One place, for REST answers and webhooks alike."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from fleet.forge.db import Row
from fleet.forge.store import Repo, Tx

Json = dict[str, Any]


def api(tx: Tx, path: str) -> str:
    return f"{tx.base}/api/v3{path}"


def repo_api(tx: Tx, repo: Repo, path: str = "") -> str:
    return api(tx, f"/repos/{repo.full_name}{path}")


def repo_html(tx: Tx, repo: Repo, path: str = "") -> str:
    return f"{tx.base}/{repo.full_name}{path}"


# Addresses that GitHub's answers always carry; clients only follow those of the verbs in rest/table.py.
_USER_URLS = ("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events",
              "received_events")  # fmt: skip
_REPO_URLS = {
    "archive": "/{archive_format}{/ref}", "assignees": "/assignees{/user}", "blobs": "/git/blobs{/sha}",
    "branches": "/branches{/branch}", "collaborators": "/collaborators{/collaborator}",
    "comments": "/comments{/number}", "commits": "/commits{/sha}", "compare": "/compare/{base}...{head}",
    "contents": "/contents/{+path}", "contributors": "/contributors", "deployments": "/deployments",
    "downloads": "/downloads", "events": "/events", "forks": "/forks", "git_commits": "/git/commits{/sha}",
    "git_refs": "/git/refs{/sha}", "git_tags": "/git/tags{/sha}", "hooks": "/hooks",
    "issue_comment": "/issues/comments{/number}", "issue_events": "/issues/events{/number}",
    "issues": "/issues{/number}", "keys": "/keys{/key_id}", "labels": "/labels{/name}", "languages": "/languages",
    "merges": "/merges", "milestones": "/milestones{/number}", "notifications": "/notifications{?since,all}",
    "pulls": "/pulls{/number}", "releases": "/releases{/id}", "stargazers": "/stargazers",
    "statuses": "/statuses/{sha}", "subscribers": "/subscribers", "subscription": "/subscription", "tags": "/tags",
    "teams": "/teams", "trees": "/git/trees{/sha}",
}  # fmt: skip


def user(tx: Tx, row: Row) -> Json:
    login = row["login"]
    return {f"{name}_url": api(tx, f"/users/{quote(login)}/{name}") for name in _USER_URLS} | {
        "gravatar_id": "",
        "login": login,
        "id": row["id"],
        "node_id": f"U_{row['id']}",
        "url": api(tx, f"/users/{quote(login)}"),
        "html_url": f"{tx.base}/{quote(login)}",
        "avatar_url": "",
        "type": row["type"],
        "site_admin": False,
    }


def user_by_id(tx: Tx, user_id: int | None) -> Json | None:
    return None if user_id is None else user(tx, tx.user_by_id(user_id))


def repository(tx: Tx, repo: Repo) -> Json:
    owner = tx.user(repo.owner)
    assert owner is not None
    count = tx.rows.one("SELECT COUNT(*) AS n FROM issues WHERE repo_id = ? AND state = 'open'", repo.id)
    urls = {f"{name}_url": repo_api(tx, repo, path) for name, path in _REPO_URLS.items()}
    counts = dict.fromkeys(("forks", "forks_count", "stargazers_count", "watchers", "watchers_count", "size",
                            "network_count", "subscribers_count"), 0)  # fmt: skip
    nothing = dict.fromkeys(("homepage", "language", "license", "mirror_url"))
    absent = dict.fromkeys(("has_discussions", "has_pages", "has_projects", "has_wiki", "has_downloads"), False)
    return (
        urls
        | counts
        | nothing
        | absent
        | {
            "id": repo.id,
            "node_id": f"R_{repo.id}",
            "name": repo.name,
            "full_name": repo.full_name,
            "owner": user(tx, owner),
            "private": repo.private,
            "visibility": "private" if repo.private else "public",
            "description": repo.description or None,
            "fork": False,
            "archived": False,
            "disabled": False,
            "has_issues": True,
            "default_branch": repo.default_branch,
            "open_issues_count": count["n"] if count else 0,
            "open_issues": count["n"] if count else 0,
            "url": repo_api(tx, repo),
            "html_url": repo_html(tx, repo),
            "clone_url": repo_html(tx, repo, ".git"),
            "git_url": repo_html(tx, repo, ".git"),
            "ssh_url": repo_html(tx, repo, ".git"),
            "svn_url": repo_html(tx, repo),
            "created_at": repo.created_at,
            "updated_at": repo.updated_at,
            "pushed_at": repo.updated_at,
            "allow_merge_commit": True,
            "allow_squash_merge": True,
            "allow_rebase_merge": False,
            "topics": [],
        }
    )


def label(tx: Tx, repo: Repo, row: Row) -> Json:
    return {
        "id": row["id"],
        "node_id": f"LA_{row['id']}",
        "url": repo_api(tx, repo, f"/labels/{quote(row['name'], safe='')}"),
        "name": row["name"],
        "color": row["color"],
        "description": row["description"],
        "default": False,
    }


def labels_of(tx: Tx, repo: Repo, issue_id: int) -> list[Json]:
    rows = tx.rows.all(
        "SELECT l.* FROM labels l JOIN issue_labels il ON il.label_id = l.id WHERE il.issue_id = ? ORDER BY l.id",
        issue_id,
    )
    return [label(tx, repo, row) for row in rows]


def _people(tx: Tx, table: str, issue_id: int) -> list[Json]:
    rows = tx.rows.all(
        f"SELECT u.* FROM users u JOIN {table} a ON a.user_id = u.id WHERE a.issue_id = ? ORDER BY u.id", issue_id
    )
    return [user(tx, row) for row in rows]


def association(tx: Tx, repo: Repo, user_id: int) -> str:
    row = tx.rows.one("SELECT level FROM permissions WHERE repo_id = ? AND user_id = ?", repo.id, user_id)
    if tx.user_by_id(user_id)["login"].lower() == repo.owner.lower():
        return "OWNER"
    return "COLLABORATOR" if row is not None else "NONE"


def _ticket(tx: Tx, repo: Repo, row: Row) -> Json:
    """What an issue and a pull request have in common."""
    return {
        "number": row["number"],
        "title": row["title"],
        "body": row["body"],
        "state": row["state"],
        "locked": False,
        "active_lock_reason": None,
        "user": user_by_id(tx, row["author_id"]),
        "author_association": association(tx, repo, row["author_id"]),
        "labels": labels_of(tx, repo, row["id"]),
        "assignees": (assignees := _people(tx, "assignees", row["id"])),
        "assignee": assignees[0] if assignees else None,
        "milestone": None,
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "closed_at": row["closed_at"],
    }


def issue(tx: Tx, repo: Repo, row: Row) -> Json:
    """An issue, or a pull request seen as one (then with ``pull_request``)."""
    number = row["number"]
    count = tx.rows.one("SELECT COUNT(*) AS n FROM comments WHERE issue_id = ?", row["id"])
    url = repo_api(tx, repo, f"/issues/{number}")
    data = _ticket(tx, repo, row) | {
        "id": row["id"],
        "node_id": f"{'PR' if row['is_pull'] else 'I'}_{row['id']}",
        "url": url,
        "repository_url": repo_api(tx, repo),
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "timeline_url": f"{url}/timeline",
        "html_url": repo_html(tx, repo, f"/{'pull' if row['is_pull'] else 'issues'}/{number}"),
        "comments": count["n"] if count else 0,
        "state_reason": row["state_reason"],
        "closed_by": user_by_id(tx, row["closed_by"]),
    }
    if row["is_pull"]:
        pull_row = tx.rows.one("SELECT draft, merged_at FROM pulls WHERE issue_id = ?", row["id"])
        assert pull_row is not None
        data["draft"] = bool(pull_row["draft"])
        data["pull_request"] = {
            "url": repo_api(tx, repo, f"/pulls/{number}"),
            "html_url": repo_html(tx, repo, f"/pull/{number}"),
            "diff_url": repo_html(tx, repo, f"/pull/{number}.diff"),
            "patch_url": repo_html(tx, repo, f"/pull/{number}.patch"),
            "merged_at": pull_row["merged_at"],
        }
    return data


def _side(tx: Tx, repo: Repo, repo_json: Json, ref: str, sha: str) -> Json:
    return {"label": f"{repo.owner}:{ref}", "ref": ref, "sha": sha, "user": repo_json["owner"], "repo": repo_json}


def pull(tx: Tx, repo: Repo, row: Row) -> Json:
    """A pull request as lists show it; ``row`` joins ``issues`` and ``pulls``. ``pulls.full`` adds the rest."""
    number = row["number"]
    url = repo_api(tx, repo, f"/pulls/{number}")
    issue_url = repo_api(tx, repo, f"/issues/{number}")
    html = repo_html(tx, repo, f"/pull/{number}")
    repo_json = repository(tx, repo)
    links = {
        "self": url,
        "html": html,
        "issue": issue_url,
        "comments": f"{issue_url}/comments",
        "commits": f"{url}/commits",
        "review_comments": f"{url}/comments",
        "review_comment": repo_api(tx, repo, "/pulls/comments{/number}"),
        "statuses": repo_api(tx, repo, f"/statuses/{row['head_sha']}"),
    }
    return _ticket(tx, repo, row) | {
        "id": row["id"],
        "node_id": f"PR_{row['id']}",
        "url": url,
        "html_url": html,
        "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch",
        "issue_url": issue_url,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "draft": bool(row["draft"]),
        "merged_at": row["merged_at"],
        "merge_commit_sha": row["merge_sha"],
        "head": _side(tx, repo, repo_json, row["head_ref"], row["head_sha"]),
        "base": _side(tx, repo, repo_json, row["base_ref"], row["base_sha"]),
        "requested_reviewers": _people(tx, "reviewers", row["id"]),
        "requested_teams": [],
        "auto_merge": None,
        "_links": {name: {"href": links[name]} for name in links},
    }


def comment(tx: Tx, repo: Repo, row: Row) -> Json:
    """An issue comment; ``row`` joins ``comments`` with the issue's ``number`` and ``is_pull``."""
    place = "pull" if row["is_pull"] else "issues"
    return {
        "id": row["id"],
        "node_id": f"IC_{row['id']}",
        "url": repo_api(tx, repo, f"/issues/comments/{row['id']}"),
        "html_url": repo_html(tx, repo, f"/{place}/{row['number']}#issuecomment-{row['id']}"),
        "issue_url": repo_api(tx, repo, f"/issues/{row['number']}"),
        "user": user_by_id(tx, row["author_id"]),
        "author_association": association(tx, repo, row["author_id"]),
        "body": row["body"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def event(tx: Tx, repo: Repo, row: Row) -> Json:
    """A timeline event other than a comment."""
    return {
        "id": row["id"],
        "node_id": f"E_{row['id']}",
        "url": repo_api(tx, repo, f"/issues/events/{row['id']}"),
        "actor": user_by_id(tx, row["actor_id"]),
        "event": row["event"],
        "commit_id": None,
        "commit_url": None,
        "created_at": row["created_at"],
        "performed_via_github_app": None,
        **json.loads(row["data"]),
    }


def review(tx: Tx, repo: Repo, row: Row, number: int) -> Json:
    html = repo_html(tx, repo, f"/pull/{number}#review-{row['id']}")
    return {
        "id": row["id"],
        "node_id": f"PRR_{row['id']}",
        "user": user_by_id(tx, row["user_id"]),
        "body": row["body"],
        "state": row["state"],
        "commit_id": row["commit_id"],
        "submitted_at": row["submitted_at"],
        "html_url": html,
        "pull_request_url": repo_api(tx, repo, f"/pulls/{number}"),
        "author_association": association(tx, repo, row["user_id"]),
        "_links": {"html": {"href": html}, "pull_request": {"href": repo_api(tx, repo, f"/pulls/{number}")}},
    }
