"""``ForgeClient`` for GitHub and for the local forge, by PyGithub. The only module that imports it,
and only when a client is made: it costs a second and 35 MB, and most processes of a fleet never ask a forge.

POST is never repeated by the library: GitHub does create and then fail. Rate limits are never slept through here
either, in the calling thread and for up to an hour: they come back as TemporaryError with ``retry_after``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from fleet.adapters.forge_comment import iso, plain_comment
from fleet.adapters.forge_errors import error_for
from fleet.adapters.forge_throttle import Throttle
from fleet.core.errors import InternalError, TemporaryError, UsageError
from fleet.core.forge import (
    Comment,
    Comments,
    CommitStatus,
    ForgePull,
    Issue,
    LabelEvent,
    Page,
    Permission,
    Repository,
    StatusState,
)
from fleet.core.ports import Clock

if TYPE_CHECKING:
    from github.Issue import Issue as HubIssue
    from github.NamedUser import NamedUser
    from github.Organization import Organization
    from github.PullRequest import PullRequest as HubPull
    from github.Repository import Repository as HubRepository

GITHUB_API: Final = "https://api.github.com"
_TIMEOUT_S = 30
_PULLS_SEARCHED = 300
_COMMENTS_SEARCHED = 1000
_EVENTS_SEARCHED = 1000
_NOT_MODIFIED = 304
_DELETED = 410
_GONE = object()
_RETRIED = ("GET", "HEAD", "PUT", "PATCH", "DELETE")


class HubClient:
    """Implements ``fleet.core.forge.ForgeClient``.

    ``base_url`` is the REST root: ``GITHUB_API``, or what the local forge prints (all its links must have that host).
    ``token`` empty: what everybody may read. ``throttle`` is shared by everything that writes to this
    forge. Safe for threads as far as PyGithub is.
    """

    def __init__(
        self, base_url: str, token: str, clock: Clock, throttle: Throttle | None = None, retries: int = 3
    ) -> None:
        import github  # noqa: PLC0415 - see the top of this file
        import requests  # noqa: PLC0415
        from github.GithubRetry import GithubRetry  # noqa: PLC0415

        self._refused = github.GithubException
        self._unreachable = requests.RequestException
        self._clock = clock
        self._throttle = throttle or Throttle(clock)

        class Asking(GithubRetry):
            """Its own answer to a 403 with Retry-After is to ask three times more at once: a ban in the making."""

            def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
                return status_code >= 500 and super().is_retry(method, status_code, has_retry_after)

        retry = Asking(
            total=retries,
            backoff_factor=0.3,
            allowed_methods=frozenset(_RETRIED),
            status_forcelist=list(range(500, 600)),
            respect_retry_after_header=False,
            max_rate_limit_wait=0.0,
        )
        self._hub = github.Github(
            auth=github.Auth.Token(token) if token else None,
            base_url=base_url.rstrip("/"),
            timeout=_TIMEOUT_S,
            retry=retry,
            per_page=100,
            lazy=True,
            user_agent="ticketfleet",
            seconds_between_requests=None,
            seconds_between_writes=None,
        )

    # --- reading ----------------------------------------------------------------------------------------------

    def repository(self, repo: str) -> Repository:
        with self._calling(f"reading the repository {repo}"):
            found = self._hub.get_repo(repo)
            rights = found.permissions
            return Repository(
                full_name=found.full_name,
                default_branch=found.default_branch,
                clone_url=found.clone_url,
                url=found.html_url,
                private=bool(found.private),
                may_push=bool(getattr(rights, "push", False)),
                archived=bool(found.archived),
            )

    def issue(self, repo: str, number: int) -> Issue:
        with self._calling(f"reading issue {repo}#{number}"):
            return _issue(self._repo(repo).get_issue(number))

    def issues_with_label(self, repo: str, label: str) -> tuple[Issue, ...]:
        with self._calling(f"listing the issues of {repo}"):
            found = self._repo(repo).get_issues(state="open", labels=[label], sort="created", direction="asc")
            return tuple(_issue(issue) for issue in found if issue.pull_request is None)

    def labelled(self, repo: str, label: str, etag: str = "") -> Page | None:
        what = f"listing the issues of {repo}"
        # Only what changes is asked for: GitHub answers an unchanged page with 304, which costs no rate limit.
        asked = {"labels": label, "state": "open", "sort": "created", "direction": "asc", "per_page": "100"}
        answer = self._unless(etag, f"/repos/{repo}/issues", asked, what)
        if answer is None:
            return None
        fresh, rows = answer
        return Page(fresh, tuple(_plain_issue(row) for row in rows if "pull_request" not in row))

    def issue_since(self, repo: str, number: int, etag: str = "") -> Page | None:
        answer = self._unless(etag, f"/repos/{repo}/issues/{number}", {}, f"reading issue {repo}#{number}")
        if answer is None:
            return None
        return Page(answer[0], () if answer[1] is _GONE else (_plain_issue(answer[1]),))

    def comments(self, repo: str, since: float, etag: str = "") -> Comments | None:
        asked = {"since": iso(since), "sort": "created", "direction": "asc", "per_page": "100"}
        answer = self._unless(etag, f"/repos/{repo}/issues/comments", asked, f"reading the comments of {repo}")
        if answer is None:
            return None
        return Comments(answer[0], tuple(plain_comment(row, self._is_mine) for row in answer[1]))

    def last_labelled(self, repo: str, number: int, label: str) -> LabelEvent | None:
        with self._calling(f"reading who labelled {repo}#{number}"):
            found = None
            for event in islice(self._repo(repo).get_issue(number).get_events(), _EVENTS_SEARCHED):
                if event.event == "labeled" and event.label.name.lower() == label.lower():
                    found = LabelEvent(event.id, _login_of(event.actor), event.created_at.timestamp())
            return found

    def pull_request(self, repo: str, number: int) -> ForgePull:
        with self._calling(f"reading the pull request {repo}#{number}"):
            return self._pull(repo, self._repo(repo).get_pull(number))

    def permission(self, repo: str, login: str) -> Permission:
        try:
            with self._calling(f"reading the permission of {login} on {repo}"):
                return Permission(self._repo(repo).get_collaborator_permission(login))
        except UsageError:
            return Permission.NONE
        except ValueError as error:
            raise InternalError(f"The forge named an unknown permission of {login} on {repo}.") from error

    def read_file(self, repo: str, path: str, branch: str) -> bytes | None:
        with self._calling(f"reading {path} of {repo}"):
            try:
                found = self._repo(repo).get_contents(path, ref=branch)
            except self._refused as error:
                if error.status == 404:
                    return None
                raise
            # A folder comes as a list, a symbolic link or a submodule without content.
            return None if isinstance(found, list) or found.encoding != "base64" else found.decoded_content

    def find_pull_request(self, repo: str, branch: str, marker: str) -> ForgePull | None:
        with self._calling(f"looking for the pull request of {branch} in {repo}"):
            hub = self._repo(repo)
            owner = repo.split("/", 1)[0]
            listed = hub.get_pulls(state="all", head=f"{owner}:{branch}")
            exact = [pull for pull in listed if pull.head.ref == branch and _own_branch(pull, repo)]
            if exact:
                return self._pull(repo, max(exact, key=lambda pull: (pull.state == "open", pull.number)))
            newest = hub.get_pulls(state="all", sort="created", direction="desc")
            for pull in islice(newest, _PULLS_SEARCHED):
                if _marked(pull.body, marker) and (found := self._pull(repo, pull)).ours:
                    return found
            return None

    def comments_on(self, repo: str, number: int, beginning: str) -> tuple[Comment, ...]:
        with self._calling(f"reading the comments of {repo}#{number}"):
            found = islice(self._repo(repo).get_issue(number).get_comments(), _COMMENTS_SEARCHED)
            return tuple(plain_comment(one.raw_data, self._is_mine) for one in found if _marked(one.body, beginning))

    def login(self, repo: str) -> str:
        with self._calling(f"asking {repo} who we are"):
            return self._login or ""

    # --- writing ----------------------------------------------------------------------------------------------

    def create_issue(self, repo: str, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        with self._writing(f"creating an issue in {repo}"):
            return _issue(self._repo(repo).create_issue(title=title, body=body, labels=list(labels)))

    def create_pull_request(
        self, repo: str, *, title: str, body: str, branch: str, base: str, draft: bool = True
    ) -> ForgePull:
        with self._writing(f"creating the pull request of {branch} in {repo}"):
            created = self._repo(repo).create_pull(base, branch, title=title, body=body, draft=draft)
            return self._pull(repo, created)

    def edit_pull_request(self, repo: str, number: int, body: str) -> None:
        with self._writing(f"editing the pull request {repo}#{number}"):
            self._repo(repo).get_pull(number).edit(body=body)

    def close_pull_request(self, repo: str, number: int) -> None:
        with self._calling(f"closing the pull request {repo}#{number}"):
            pull = self._repo(repo).get_pull(number)
            if pull.state == "open":
                self._throttle.wait()
                pull.edit(state="closed")

    def add_labels(self, repo: str, number: int, labels: Sequence[str]) -> None:
        with self._calling(f"labelling {repo}#{number}"):
            issue = self._repo(repo).get_issue(number)
            missing = [label for label in labels if label not in {known.name for known in issue.labels}]
            if missing:
                self._throttle.wait()
                issue.add_to_labels(*missing)

    def swap_labels(self, repo: str, number: int, wanted: str, unwanted: Sequence[str]) -> None:
        with self._calling(f"labelling {repo}#{number}"):
            issue = self._repo(repo).get_issue(number)
            there = {label.name.lower(): label.name for label in issue.labels}
            if wanted.lower() not in there:
                self._throttle.wait()
                issue.add_to_labels(wanted)
            for name in unwanted:
                if name.lower() in there and name.lower() != wanted.lower():
                    self._throttle.wait()
                    issue.remove_from_labels(there[name.lower()])

    def put_comment(self, repo: str, number: int, marker: str, body: str) -> str:
        if not _marked(body, marker):
            raise InternalError("A comment of the fleet must begin with its marker.")
        with self._calling(f"commenting on {repo}#{number}"):
            issue = self._repo(repo).get_issue(number)
            for comment in islice(issue.get_comments(), _COMMENTS_SEARCHED):
                if _marked(comment.body, marker) and self._is_me(comment.user):
                    if comment.body != body:
                        self._throttle.wait()
                        comment.edit(body)
                    return comment.html_url
            self._throttle.wait()
            return issue.create_comment(body).html_url

    def set_statuses(self, repo: str, sha: str, statuses: Sequence[CommitStatus]) -> None:
        with self._calling(f"setting the statuses of {repo}@{sha[:12]}"):
            commit = self._repo(repo).get_commit(sha)
            known = {
                CommitStatus(status.context, StatusState(status.state), status.description or "")
                for status in commit.get_combined_status().statuses
            }
            for status in statuses:
                if status not in known:
                    self._throttle.wait()
                    commit.create_status(
                        status.state.value, description=status.description[:140], context=status.context
                    )

    # --- details ----------------------------------------------------------------------------------------------

    @cached_property
    def _login(self) -> str | None:
        """Our own login; None for a token that has no user (an installation), and without a token."""
        try:
            return self._hub.get_user().login
        except self._refused as error:
            if error.status in (401, 403, 404):
                return None
            raise

    def _is_me(self, user: NamedUser | Organization | None) -> bool:
        """Whether we are ``user``. An installation cannot ask who it is; it trusts bots only."""
        if user is None:
            return False
        return user.login == self._login if self._login is not None else user.type == "Bot"

    def _is_mine(self, login: str, kind: str) -> bool:
        with self._calling("asking who we are"):
            return login == self._login if self._login is not None else kind == "Bot"

    def _unless(self, etag: str, path: str, query: dict[str, str], what: str) -> tuple[str, Any] | None:
        """(ETag, answer) of a page, ``_GONE`` for what was deleted; None when what ``etag`` is of did not change."""
        with self._calling(what):
            status, headers, text = self._hub.requester.requestJson(
                "GET", path, query, {"If-None-Match": etag} if etag else {}
            )
        if status == _NOT_MODIFIED:
            return None
        if status == _DELETED:
            return "", _GONE
        data = _json(text)
        if status >= 300:
            raise error_for(status, data, headers, what, self._clock.now())
        return str(headers.get("etag", "")), data

    def _repo(self, repo: str) -> HubRepository:
        return self._hub.get_repo(repo)

    def _pull(self, repo: str, pull: HubPull) -> ForgePull:
        return ForgePull(
            number=pull.number,
            url=pull.html_url,
            open=pull.state == "open",
            merged=pull.merged_at is not None,
            draft=pull.draft,
            branch=pull.head.ref,
            head_sha=pull.head.sha,
            base=pull.base.ref,
            title=pull.title,
            body=pull.body or "",
            author=_login_of(pull.user),
            labels=tuple(label.name for label in pull.labels),
            ours=_own_branch(pull, repo) and self._is_me(pull.user),
        )

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        self._throttle.wait()
        with self._calling(what):
            yield

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._refused as error:
            raise error_for(error.status, error.data, error.headers, what, self._clock.now()) from error
        except self._unreachable as error:
            raise TemporaryError(f"The forge does not answer while {what}: {type(error).__name__}.") from error


def _own_branch(pull: HubPull, repo: str) -> bool:
    """Whether its branch lies in the repository itself: a fork may name its branch as it likes."""
    source = pull.head.repo
    return bool(source) and source.full_name.lower() == repo.lower()


def _marked(body: str | None, marker: str) -> bool:
    """Whether the text begins with ``marker``; one further down may be a quotation of untrusted text."""
    return (body or "").startswith(marker)


def _login_of(user: NamedUser | Organization | None) -> str:
    return user.login if user else ""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text[:200]


def _plain_issue(row: Any) -> Issue:
    """From GitHub's JSON: a conditional request has no object of the library's behind it."""
    return Issue(
        number=row["number"],
        title=row["title"],
        body=row["body"] or "",
        open=row["state"] == "open",
        author=(row["user"] or {}).get("login", ""),
        labels=tuple(label["name"] for label in row["labels"]),
        url=row["html_url"],
        pull="pull_request" in row,
    )


def _issue(issue: HubIssue) -> Issue:
    return Issue(
        number=issue.number,
        title=issue.title,
        body=issue.body or "",
        open=issue.state == "open",
        author=_login_of(issue.user),
        labels=tuple(label.name for label in issue.labels),
        url=issue.html_url,
        pull=issue.pull_request is not None,
    )
