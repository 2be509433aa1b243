"""What each page shows."""

from __future__ import annotations

import json
from typing import Any

from fleet.forge import checks
from fleet.forge import issues as issue_domain
from fleet.forge import pulls as pull_domain
from fleet.forge.access import WRITE, level_of
from fleet.forge.changes import PatchLimits, changed_files
from fleet.forge.db import Row
from fleet.forge.errors import not_found
from fleet.forge.store import Repo
from fleet.forge.web import diffview
from fleet.forge.web.view import Page, View

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
TABS = ("conversation", "commits", "checks", "files")
_GOOD, _BAD = ("success", "neutral", "skipped"), ("failure", "error", "timed_out", "cancelled", "action_required")
_LISTED = 200


def when(text: str | None) -> str:
    """A stored time as people read it."""
    return "" if not text else f"{text[:10]} {text[11:16]} UTC"


def _titled(title: str, repo: Repo | None = None, level: int = 0, **data: Any) -> dict[str, Any]:
    return {"title": title, "repo": repo, "may_write": level >= WRITE, **data}


def home(view: View) -> Page:
    rows = []
    for repo in view.tx.repos():
        if level_of(view.tx.rows, repo.id, repo.full_name, view.caller):
            rows.append((repo, _open(view, repo, 0), _open(view, repo, 1)))
    return Page("home.html", _titled("Repositories", rows=rows))


def _open(view: View, repo: Repo, is_pull: int) -> int:
    row = view.tx.rows.one(
        "SELECT COUNT(*) AS n FROM issues WHERE repo_id = ? AND is_pull = ? AND state = 'open'", repo.id, is_pull
    )
    return int(row["n"]) if row else 0


def _listed(view: View, repo: Repo, is_pull: int, state: str, limit: int = _LISTED) -> list[dict[str, Any]]:
    rows = view.tx.rows.all(
        "SELECT i.*, u.login, p.draft, p.merged_at, p.head_ref, p.head_sha FROM issues i"
        " JOIN users u ON u.id = i.author_id LEFT JOIN pulls p ON p.issue_id = i.id"
        " WHERE i.repo_id = ? AND i.is_pull = ? AND (? = 'all' OR i.state = ?) ORDER BY i.number DESC LIMIT ?",
        repo.id, is_pull, state, state, limit,
    )  # fmt: skip
    return [row | {"labels": _labels(view, row), "badge": _badge(row)} for row in rows]


def _badge(row: Row) -> tuple[str, str]:
    """(css class, words) of a state."""
    if row.get("merged_at"):
        return "merged", "Merged"
    if row["state"] == "closed":
        return ("closed", "Closed") if row["is_pull"] else ("done", "Closed")
    return ("draft", "Draft") if row.get("draft") else ("open", "Open")


def _labels(view: View, row: Row) -> list[Row]:
    return view.tx.rows.all(
        "SELECT l.* FROM labels l JOIN issue_labels il ON il.label_id = l.id WHERE il.issue_id = ? ORDER BY l.id",
        row["id"],
    )


def repo(view: View) -> Page:
    found, level = view.repo()
    bare = view.tx.bare(found)
    heads = [(name.removeprefix("refs/heads/"), sha) for name, sha in bare.refs().items() if "/heads/" in name]
    heads.sort(key=lambda pair: (pair[0] != found.default_branch, pair[0]))
    branches = [(name, bare.log([sha], limit=1)[0]) for name, sha in heads[:50]]
    data = _titled(
        found.full_name, found, level, branches=branches, more_branches=max(0, len(heads) - 50), tab="code",
        issues=_listed(view, found, 0, "open", 10), pulls=_listed(view, found, 1, "open", 10),
        clone=f"{view.tx.base}/{found.full_name}.git",
    )  # fmt: skip
    return Page("repo.html", data)


def _state(view: View) -> str:
    return view.query.get("state", "open") if view.query.get("state") in ("closed", "all") else "open"


def issues(view: View) -> Page:
    found, level = view.repo()
    rows = _listed(view, found, 0, _state(view))
    return Page("list.html", _titled("Issues", found, level, rows=rows, state=_state(view), tab="issues"))


def pulls(view: View) -> Page:
    found, level = view.repo()
    rows = _listed(view, found, 1, _state(view))
    return Page("list.html", _titled("Pull requests", found, level, rows=rows, state=_state(view), tab="pulls"))


def new_issue(view: View) -> Page:
    found, level = view.repo()
    return Page("new_issue.html", _titled("New issue", found, level, tab="issues"))


def issue(view: View) -> Page:
    found, level = view.repo()
    row = issue_domain.get(view.tx, found, view.number())
    if row["is_pull"]:
        return Page("", {}, f"/{found.full_name}/pull/{row['number']}")
    return Page("issue.html", _titled(row["title"], found, level, **_talk(view, found, row), tab="issues"))


def _talk(view: View, found: Repo, row: Row) -> dict[str, Any]:
    """The parts that the pages of an issue and of a pull request share."""
    people = {one["id"]: one["login"] for one in view.tx.rows.all("SELECT id, login FROM users")}
    talk = [{"kind": "comment", **one} for one in issue_domain.comments(view.tx, row)]
    talk += [
        {"kind": "event", **one, "said": _event(one)}
        for one in view.tx.rows.all("SELECT *, actor_id AS author_id FROM timeline WHERE issue_id = ?", row["id"])
    ]
    reviews = view.tx.rows.all(
        "SELECT *, user_id AS author_id, submitted_at AS created_at FROM reviews WHERE issue_id = ?", row["id"]
    )
    talk += [{"kind": "review", **one} for one in reviews]
    talk.sort(key=lambda one: str(one["created_at"]))
    return {
        "row": row,
        "badge": _badge(row),
        "labels": _labels(view, row),
        "known_labels": view.tx.rows.all("SELECT * FROM labels WHERE repo_id = ? ORDER BY name", found.id),
        "talk": talk,
        "people": people,
        "author": people[row["author_id"]],
        "mine": row["author_id"] == view.caller.user_id,
    }


def _event(row: Row) -> tuple[str, str]:
    """(words, name that the event is about)."""
    data = json.loads(row["data"])
    names = (data.get("label", {}).get("name"), data.get("rename", {}).get("to"), data.get("commit_id", "")[:12])
    about = next((str(name) for name in names if name), "")
    words = {
        "labeled": "added the label", "unlabeled": "removed the label", "renamed": "changed the title to",
        "merged": "merged this as", "closed": "closed this", "reopened": "reopened this",
        "ready_for_review": "marked this as ready for review", "convert_to_draft": "marked this as a draft",
        "head_ref_force_pushed": "force-pushed the branch",
    }  # fmt: skip
    return words.get(row["event"], str(row["event"]).replace("_", " ")), about


def _check_rows(view: View, found: Repo, sha: str) -> list[dict[str, Any]]:
    """Check runs and statuses in one form."""
    rows = []
    for run in checks.runs(view.tx, found, sha):
        output = json.loads(run["output"])
        state = run["conclusion"] or run["status"]
        rows.append({"name": run["name"], "state": state, "title": output.get("title"), "url": run["details_url"],
                     "summary": output.get("summary"), "text": output.get("text"),
                     "at": run["completed_at"]})  # fmt: skip
    for one in checks.latest_statuses(view.tx, found, sha):
        rows.append({"name": one["context"], "state": one["state"], "title": one["description"],
                     "url": one["target_url"], "summary": None, "text": None, "at": one["created_at"]})  # fmt: skip
    mark = {state: "good" for state in _GOOD} | {state: "bad" for state in _BAD}
    return [row | {"mark": mark.get(str(row["state"]), "wait")} for row in rows]


def pull(view: View) -> Page:
    found, level = view.repo()
    row = pull_domain.get(view.tx, found, view.number())
    part = view.path.get("tab", "conversation")
    if part not in TABS:
        raise not_found()
    rows = _check_rows(view, found, row["head_sha"])
    changes = pull_domain.files(view.tx, found, row, PatchLimits() if part == "files" else None)
    data = _titled(
        row["title"], found, level, **_talk(view, found, row), part=part, tab="pulls", checks=rows,
        commits=pull_domain.commits(view.tx, found, row), files=len(changes),
        added=sum(one.additions for one in changes), deleted=sum(one.deletions for one in changes),
        views=diffview.views(changes) if part == "files" else [],
        tally={mark: sum(one["mark"] == mark for one in rows) for mark in ("good", "bad", "wait")},
        conflicts=pull_domain.conflicts(view.tx, found, row) if part == "conversation" else None,
    )  # fmt: skip
    return Page("pull.html", data)


def commit(view: View) -> Page:
    found, level = view.repo()
    bare = view.tx.bare(found)
    sha = bare.resolve(view.path["sha"])
    one = bare.commit(sha) if sha else None
    if one is None:
        raise not_found()
    changes = changed_files(bare, one.parents[0] if one.parents else EMPTY_TREE, one.sha, PatchLimits())
    rows = _check_rows(view, found, one.sha)
    data = _titled(one.title, found, level, commit=one, views=diffview.views(changes), checks=rows, tab="code")
    return Page("commit.html", data)
