"""REST: commits, comparison, statuses and check runs."""

from __future__ import annotations

from typing import Any

from fleet.forge import checks, shapes, shapes_git
from fleet.forge.bare import Commit
from fleet.forge.changes import PatchLimits, changed_files
from fleet.forge.errors import ApiError, not_found
from fleet.forge.rest.call import Answer, Call, Json, Listing

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def _sha(call: Call, rev: str) -> str:
    sha = call.tx.bare(call.repo).resolve(rev)
    if sha is None:
        raise ApiError(422, f"No commit found for SHA: {rev}")
    return sha


def _commit(call: Call, sha: str) -> Commit:
    commit = call.tx.bare(call.repo).commit(sha)
    if commit is None:
        raise not_found()
    return commit


def listing(call: Call) -> Listing:
    bare = call.tx.bare(call.repo)
    start = _sha(call, call.query.get("sha") or call.repo.default_branch)
    return Listing(bare.log([start], limit=1000), lambda one: shapes_git.commit(call.tx, call.repo, one))


def get(call: Call) -> Json:
    commit = _commit(call, _sha(call, call.path["ref"]))
    base = commit.parents[0] if commit.parents else EMPTY_TREE
    files = changed_files(call.tx.bare(call.repo), base, commit.sha, PatchLimits())
    return shapes_git.commit(call.tx, call.repo, commit, files)


def git_commit(call: Call) -> Json:
    if not call.tx.bare(call.repo).has(call.path["sha"]):
        raise not_found()
    return shapes_git.git_commit(call.tx, call.repo, _commit(call, call.path["sha"]))


def compare(call: Call) -> Json:
    old, dots, new = call.path["basehead"].partition("...")
    bare = call.tx.bare(call.repo)
    base, head = bare.resolve(old.rpartition(":")[2]), bare.resolve(new.rpartition(":")[2])
    if not dots or base is None or head is None:
        raise not_found()
    middle = bare.merge_base(base, head)
    if middle is None:
        raise ApiError(404, f"No common ancestor between {old} and {new}.")
    ahead, behind = bare.ahead_behind(base, head)
    status = "identical" if not ahead + behind else "diverged" if ahead and behind else "ahead" if ahead else "behind"
    here = f"/compare/{old}...{new}"
    return {
        "url": shapes.repo_api(call.tx, call.repo, here),
        "html_url": shapes.repo_html(call.tx, call.repo, here),
        "permalink_url": shapes.repo_html(call.tx, call.repo, here),
        "diff_url": shapes.repo_html(call.tx, call.repo, f"{here}.diff"),
        "patch_url": shapes.repo_html(call.tx, call.repo, f"{here}.patch"),
        "base_commit": shapes_git.commit(call.tx, call.repo, _commit(call, base)),
        "merge_base_commit": shapes_git.commit(call.tx, call.repo, _commit(call, middle)),
        "status": status,
        "ahead_by": ahead,
        "behind_by": behind,
        "total_commits": ahead,
        "commits": [shapes_git.commit(call.tx, call.repo, one) for one in bare.between(base, head)],
        "files": [
            shapes_git.file(call.tx, call.repo, head, f) for f in changed_files(bare, middle, head, PatchLimits())
        ],
    }


def create_status(call: Call) -> Answer:
    row = checks.add_status(call.tx, call.repo, call.path["sha"], call.fields, call.caller.user_id)
    return Answer(shapes_git.status(call.tx, call.repo, row), 201)


def statuses(call: Call) -> Listing:
    rows = checks.statuses(call.tx, call.repo, _sha(call, call.path["ref"]))
    return Listing(rows, lambda row: shapes_git.status(call.tx, call.repo, row))


def combined(call: Call) -> Json:
    sha = _sha(call, call.path["ref"])
    rows = checks.latest_statuses(call.tx, call.repo, sha)
    return {
        "state": checks.combined(rows),
        "sha": sha,
        "total_count": len(rows),
        "statuses": [shapes_git.status(call.tx, call.repo, row) for row in rows],
        "repository": shapes.repository(call.tx, call.repo),
        "url": shapes.repo_api(call.tx, call.repo, f"/commits/{sha}/status"),
        "commit_url": shapes.repo_api(call.tx, call.repo, f"/commits/{sha}"),
    }


def _run(call: Call, row: Any) -> Json:
    return shapes_git.check_run(call.tx, call.repo, row)


def create_run(call: Call) -> Answer:
    return Answer(_run(call, checks.create_run(call.tx, call.repo, call.fields, call.caller.user_id)), 201)


def update_run(call: Call) -> Json:
    row = checks.get_run(call.tx, call.repo, call.number("id"))
    return _run(call, checks.update_run(call.tx, call.repo, row, call.fields, call.caller.user_id))


def get_run(call: Call) -> Json:
    return _run(call, checks.get_run(call.tx, call.repo, call.number("id")))


def runs(call: Call) -> Listing:
    name, status = call.query.get("check_name", ""), call.query.get("status", "")
    newest = call.query.get("filter", "latest") != "all"
    rows = checks.runs(call.tx, call.repo, _sha(call, call.path["ref"]), name, status, newest)
    return Listing(rows, lambda row: _run(call, row), wrap="check_runs")
