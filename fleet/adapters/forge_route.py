"""One ``ForgeClient`` over several forges: each repository is asked at the forge where it lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fleet.core.forge import (
    Comment,
    Comments,
    CommitStatus,
    ForgeClient,
    ForgePull,
    Issue,
    LabelEvent,
    Page,
    Permission,
    Repository,
)


class RoutedForge:
    """Implements ``fleet.core.forge.ForgeClient``. ``of``: the client for owner/name; called for every request."""

    def __init__(self, of: Callable[[str], ForgeClient]) -> None:
        self._of = of

    def repository(self, repo: str) -> Repository:
        return self._of(repo).repository(repo)

    def issue(self, repo: str, number: int) -> Issue:
        return self._of(repo).issue(repo, number)

    def issues_with_label(self, repo: str, label: str) -> tuple[Issue, ...]:
        return self._of(repo).issues_with_label(repo, label)

    def labelled(self, repo: str, label: str, etag: str = "") -> Page | None:
        return self._of(repo).labelled(repo, label, etag)

    def issue_since(self, repo: str, number: int, etag: str = "") -> Page | None:
        return self._of(repo).issue_since(repo, number, etag)

    def last_labelled(self, repo: str, number: int, label: str) -> LabelEvent | None:
        return self._of(repo).last_labelled(repo, number, label)

    def comments(self, repo: str, since: float, etag: str = "") -> Comments | None:
        return self._of(repo).comments(repo, since, etag)

    def create_issue(self, repo: str, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        return self._of(repo).create_issue(repo, title, body, labels)

    def permission(self, repo: str, login: str) -> Permission:
        return self._of(repo).permission(repo, login)

    def pull_request(self, repo: str, number: int) -> ForgePull:
        return self._of(repo).pull_request(repo, number)

    def read_file(self, repo: str, path: str, branch: str) -> bytes | None:
        return self._of(repo).read_file(repo, path, branch)

    def find_pull_request(self, repo: str, branch: str, marker: str) -> ForgePull | None:
        return self._of(repo).find_pull_request(repo, branch, marker)

    def create_pull_request(
        self, repo: str, *, title: str, body: str, branch: str, base: str, draft: bool = True
    ) -> ForgePull:
        forge = self._of(repo)
        return forge.create_pull_request(repo, title=title, body=body, branch=branch, base=base, draft=draft)

    def edit_pull_request(self, repo: str, number: int, body: str) -> None:
        self._of(repo).edit_pull_request(repo, number, body)

    def close_pull_request(self, repo: str, number: int) -> None:
        self._of(repo).close_pull_request(repo, number)

    def add_labels(self, repo: str, number: int, labels: Sequence[str]) -> None:
        self._of(repo).add_labels(repo, number, labels)

    def swap_labels(self, repo: str, number: int, wanted: str, unwanted: Sequence[str]) -> None:
        self._of(repo).swap_labels(repo, number, wanted, unwanted)

    def put_comment(self, repo: str, number: int, marker: str, body: str) -> str:
        return self._of(repo).put_comment(repo, number, marker, body)

    def comments_on(self, repo: str, number: int, beginning: str) -> tuple[Comment, ...]:
        return self._of(repo).comments_on(repo, number, beginning)

    def login(self, repo: str) -> str:
        return self._of(repo).login(repo)

    def set_statuses(self, repo: str, sha: str, statuses: Sequence[CommitStatus]) -> None:
        self._of(repo).set_statuses(repo, sha, statuses)
