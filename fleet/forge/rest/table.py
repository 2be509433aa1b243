"""Every verb of the API in one table: its name, address, handler, and what the caller must hold.

``scope`` and ``needs`` are about the token, ``role`` is about its user: both must suffice. What the user may not even
read answers 404, a missing right answers 403.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleet.forge.access import ADMIN, READ, WRITE
from fleet.forge.rest import commits, issues, pulls, repos
from fleet.forge.rest.call import Call

_PART = re.compile(r"\{(\w+)(:path)?\}")


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing the API can do. ``scope`` empty: any token, and no repository is looked up."""

    name: str
    method: str
    pattern: re.Pattern[str]
    handler: Callable[[Call], Any]
    scope: str
    needs: int
    role: int


def _compile(path: str) -> re.Pattern[str]:
    return re.compile("^" + _PART.sub(lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", path) + "$")


def _v(name: str, line: str, handler: Callable[[Call], Any], scope: str, needs: int = READ, role: int = READ) -> Verb:
    method, path = line.split(" ")
    full = path if not scope else f"/repos/{{owner}}/{{repo}}{path}"
    return Verb(name, method, _compile(full), handler, scope, needs, role)


_N = "{number}"
VERBS: tuple[Verb, ...] = (
    _v("user.me", "GET /user", repos.me, ""),
    _v("user.repos", "GET /user/repos", repos.mine, ""),
    _v("user.get", "GET /users/{login}", repos.user, ""),
    _v("rate_limit", "GET /rate_limit", repos.rate_limit, ""),
    _v("repo.get", "GET ", repos.get, "metadata"),
    _v("collaborator.list", "GET /collaborators", repos.collaborators, "metadata"),
    _v("collaborator.check", "GET /collaborators/{login}", repos.is_collaborator, "metadata"),
    _v("collaborator.permission", "GET /collaborators/{login}/permission", repos.permission, "metadata"),
    _v("branch.list", "GET /branches", repos.branches, "contents"),
    _v("branch.get", "GET /branches/{branch:path}", repos.branch, "contents"),
    _v("ref.get", "GET /git/ref/{ref:path}", repos.get_ref, "contents"),
    _v("ref.list", "GET /git/refs", repos.matching_refs, "contents"),
    _v("ref.get", "GET /git/refs/{ref:path}", repos.get_ref, "contents"),
    _v("ref.match", "GET /git/matching-refs/{ref:path}", repos.matching_refs, "contents"),
    _v("ref.create", "POST /git/refs", repos.create_ref, "contents", WRITE, WRITE),
    _v("ref.update", "PATCH /git/refs/{ref:path}", repos.update_ref, "contents", WRITE, WRITE),
    _v("ref.delete", "DELETE /git/refs/{ref:path}", repos.delete_ref, "contents", WRITE, WRITE),
    _v("contents.get", "GET /contents", repos.contents, "contents"),
    _v("contents.get", "GET /contents/{path:path}", repos.contents, "contents"),
    _v("commit.git", "GET /git/commits/{sha}", commits.git_commit, "contents"),
    _v("compare", "GET /compare/{basehead:path}", commits.compare, "contents"),
    _v("commit.list", "GET /commits", commits.listing, "contents"),
    _v("status.combined", "GET /commits/{ref:path}/status", commits.combined, "statuses"),
    _v("status.list", "GET /commits/{ref:path}/statuses", commits.statuses, "statuses"),
    _v("check.list", "GET /commits/{ref:path}/check-runs", commits.runs, "checks"),
    _v("pull.of_commit", "GET /commits/{ref:path}/pulls", pulls.commit_pulls, "pull_requests"),
    _v("commit.get", "GET /commits/{ref:path}", commits.get, "contents"),
    _v("status.create", "POST /statuses/{sha}", commits.create_status, "statuses", WRITE, WRITE),
    _v("status.list", "GET /statuses/{ref}", commits.statuses, "statuses"),
    _v("check.create", "POST /check-runs", commits.create_run, "checks", WRITE, WRITE),
    _v("check.get", "GET /check-runs/{id}", commits.get_run, "checks"),
    _v("check.update", "PATCH /check-runs/{id}", commits.update_run, "checks", WRITE, WRITE),
    _v("issue.list", "GET /issues", issues.listing, "issues"),
    _v("issue.create", "POST /issues", issues.create, "issues", WRITE),
    _v("comment.all", "GET /issues/comments", issues.all_comments, "issues"),
    _v("comment.get", "GET /issues/comments/{id}", issues.get_comment, "issues"),
    _v("comment.edit", "PATCH /issues/comments/{id}", issues.edit_comment, "issues", WRITE),
    _v("comment.delete", "DELETE /issues/comments/{id}", issues.delete_comment, "issues", WRITE),
    _v("issue.get", f"GET /issues/{_N}", issues.get, "issues"),
    _v("issue.edit", f"PATCH /issues/{_N}", issues.edit, "issues", WRITE),
    _v("comment.list", f"GET /issues/{_N}/comments", issues.comments, "issues"),
    _v("comment.create", f"POST /issues/{_N}/comments", issues.create_comment, "issues", WRITE),
    _v("issue.events", f"GET /issues/{_N}/events", issues.events, "issues"),
    _v("issue.timeline", f"GET /issues/{_N}/timeline", issues.timeline, "issues"),
    _v("issue.labels", f"GET /issues/{_N}/labels", issues.labels_of, "issues"),
    _v("issue.label", f"POST /issues/{_N}/labels", issues.add_labels, "issues", WRITE, WRITE),
    _v("issue.label", f"PUT /issues/{_N}/labels", issues.set_labels, "issues", WRITE, WRITE),
    _v("issue.unlabel", f"DELETE /issues/{_N}/labels", issues.clear_labels, "issues", WRITE, WRITE),
    _v("issue.unlabel", f"DELETE /issues/{_N}/labels/{{name:path}}", issues.remove_label, "issues", WRITE, WRITE),
    _v("issue.assign", f"POST /issues/{_N}/assignees", issues.assign, "issues", WRITE, WRITE),
    _v("issue.unassign", f"DELETE /issues/{_N}/assignees", issues.unassign, "issues", WRITE, WRITE),
    _v("label.list", "GET /labels", issues.repo_labels, "issues"),
    _v("label.create", "POST /labels", issues.create_label, "issues", WRITE, WRITE),
    _v("label.get", "GET /labels/{name:path}", issues.get_label, "issues"),
    _v("label.edit", "PATCH /labels/{name:path}", issues.edit_label, "issues", WRITE, WRITE),
    _v("label.delete", "DELETE /labels/{name:path}", issues.delete_label, "issues", WRITE, WRITE),
    _v("pull.list", "GET /pulls", pulls.listing, "pull_requests"),
    _v("pull.create", "POST /pulls", pulls.create, "pull_requests", WRITE, WRITE),
    _v("pull.get", f"GET /pulls/{_N}", pulls.get, "pull_requests"),
    _v("pull.edit", f"PATCH /pulls/{_N}", pulls.edit, "pull_requests", WRITE),
    _v("pull.files", f"GET /pulls/{_N}/files", pulls.files, "pull_requests"),
    _v("pull.commits", f"GET /pulls/{_N}/commits", pulls.commits, "pull_requests"),
    _v("pull.line_comments", f"GET /pulls/{_N}/comments", pulls.nothing, "pull_requests"),
    _v("pull.merged", f"GET /pulls/{_N}/merge", pulls.is_merged, "pull_requests"),
    _v("pull.merge", f"PUT /pulls/{_N}/merge", pulls.merge, "contents", WRITE, WRITE),
    _v("review.list", f"GET /pulls/{_N}/reviews", pulls.reviews, "pull_requests"),
    _v("review.create", f"POST /pulls/{_N}/reviews", pulls.create_review, "pull_requests", WRITE),
    _v("review.requested", f"GET /pulls/{_N}/requested_reviewers", pulls.requested, "pull_requests"),
    _v("review.request", f"POST /pulls/{_N}/requested_reviewers", pulls.request_review, "pull_requests", WRITE, WRITE),
    _v("review.unrequest", f"DELETE /pulls/{_N}/requested_reviewers", pulls.withdraw_review, "pull_requests",
       WRITE, WRITE),
    _v("hook.list", "GET /hooks", issues.repo_hooks, "webhooks", READ, ADMIN),
    _v("hook.create", "POST /hooks", issues.create_hook, "webhooks", WRITE, ADMIN),
    _v("hook.get", "GET /hooks/{id}", issues.get_hook, "webhooks", READ, ADMIN),
    _v("hook.delete", "DELETE /hooks/{id}", issues.delete_hook, "webhooks", WRITE, ADMIN),
    _v("hook.ping", "POST /hooks/{id}/pings", issues.ping_hook, "webhooks", WRITE, ADMIN),
    _v("hook.deliveries", "GET /hooks/{id}/deliveries", issues.deliveries, "webhooks", READ, ADMIN),
    _v("hook.delivery", "GET /hooks/{id}/deliveries/{delivery}", issues.delivery, "webhooks", READ, ADMIN),
    _v("hook.redeliver", "POST /hooks/{id}/deliveries/{delivery}/attempts", issues.redeliver, "webhooks", WRITE, ADMIN),
)  # fmt: skip

# Comments and labels of a pull request also go with the pull_requests permission, as on GitHub.
ALSO_PULLS = frozenset({"issue.get", "issue.edit", "issue.events", "issue.timeline", "issue.labels", "issue.label",
                        "issue.unlabel", "comment.list", "comment.create", "comment.edit", "comment.get",
                        "label.list", "label.get", "label.create"})  # fmt: skip


def find(method: str, path: str) -> tuple[Verb, dict[str, str]] | None:
    """The verb for an address below the API's root, and the parts of its path."""
    for verb in VERBS:
        if verb.method == method and (match := verb.pattern.match(path)):
            return verb, match.groupdict()
    return None


GRAPHQL = Verb("graphql", "POST", re.compile("^$"), pulls.graphql, "", READ, READ)
