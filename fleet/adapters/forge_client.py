"""``ForgeClient`` for GitHub and for the local forge, by PyGithub. The only module that imports it,
and only when a client is made: it costs a second and 35 MB, and most processes of a fleet never ask a forge.

POST is never repeated by the library: GitHub does create and then fail. Rate limits are never slept through here
either, in the calling thread and for up to an hour: they come back as TemporaryError with ``retry_after``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Final

from fleet.adapters.forge_errors import error_for
from fleet.adapters.forge_throttle import Throttle
from fleet.core.errors import InternalError, TemporaryError, UsageError
from fleet.core.forge import CommitStatus, ForgePull, Issue, Permission, Repository, StatusState
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
_RETRIED = ("GET", "HEAD", "PUT", "PATCH", "DELETE")


class HubClient:
    """Implements ``fleet.core.forge.ForgeClient``.

    ``base_url`` is the REST root: ``GITHUB_API``, or what the local forge prints (all its links must have that host).
    ``throttle`` is shared by everything that writes to this forge. Safe for threads as far as PyGithub is.
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
            auth=github.Auth.Token(token),
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
            return Repository(
                found.full_name, found.default_branch, found.clone_url, found.html_url, bool(found.private)
            )

    def issue(self, repo: str, number: int) -> Issue:
        with self._calling(f"reading issue {repo}#{number}"):
            return _issue(self._repo(repo).get_issue(number))

    def issues_with_label(self, repo: str, label: str) -> tuple[Issue, ...]:
        with self._calling(f"listing the issues of {repo}"):
            found = self._repo(repo).get_issues(state="open", labels=[label], sort="created", direction="asc")
            return tuple(_issue(issue) for issue in found if issue.pull_request is None)

    def permission(self, repo: str, login: str) -> Permission:
        try:
            with self._calling(f"reading the permission of {login} on {repo}"):
                return Permission(self._repo(repo).get_collaborator_permission(login))
        except UsageError:
            return Permission.NONE
        except ValueError as error:
            raise InternalError(f"The forge named an unknown permission of {login} on {repo}.") from error

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
        """Our own login; None for a token that has no user (an installation)."""
        try:
            return self._hub.get_user().login
        except self._refused as error:
            if error.status in (403, 404):
                return None
            raise

    def _is_me(self, user: NamedUser | Organization | None) -> bool:
        """Whether we are ``user``. An installation cannot ask who it is; it trusts bots only."""
        if user is None:
            return False
        return user.login == self._login if self._login is not None else user.type == "Bot"

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


def _issue(issue: HubIssue) -> Issue:
    return Issue(
        number=issue.number,
        title=issue.title,
        body=issue.body or "",
        open=issue.state == "open",
        author=_login_of(issue.user),
        labels=tuple(label.name for label in issue.labels),
        url=issue.html_url,
    )
