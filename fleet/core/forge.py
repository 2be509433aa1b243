"""The forge as the fleet sees it: issues, pull requests, comments and statuses of GitHub or of the local forge.

There is no verb here to approve, merge or mark ready: what nobody can call, nobody calls by mistake (I13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Permission(Enum):
    """What a person may do on a repository, weakest first."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def may_write(self) -> bool:
        return self in (Permission.WRITE, Permission.ADMIN)


class StatusState(Enum):
    """State of a commit status."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """``context`` names who says it, e.g. ``fleet/tests``; ``description`` has at most 140 characters."""

    context: str
    state: StatusState
    description: str


@dataclass(frozen=True, slots=True)
class Repository:
    """``full_name`` is owner/name; ``clone_url`` speaks git over HTTP and carries no credentials.

    ``may_push``: what the forge says of the token's own user; a token may still be limited to less.
    """

    full_name: str
    default_branch: str
    clone_url: str
    url: str
    private: bool
    may_push: bool = False
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue as written: title and body are untrusted text. ``pull``: it is a pull request."""

    number: int
    title: str
    body: str
    open: bool
    author: str
    labels: tuple[str, ...]
    url: str
    pull: bool = False


@dataclass(frozen=True, slots=True)
class LabelEvent:
    """Somebody put a label on an issue, at Unix time ``at``. ``id`` is the forge's own number of that act."""

    id: int
    login: str
    at: float


@dataclass(frozen=True, slots=True)
class Page:
    """``issues`` as of ``etag``: asking again with it costs nothing while nothing changed."""

    etag: str
    issues: tuple[Issue, ...]


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote below issue or pull request ``number``; untrusted text. ``at``: Unix time,
    ``changed`` that of its last edit, both by the forge's clock.

    ``edited``: it is no longer what its author first wrote, and whoever may write to the repository may have changed
    it. ``bot``: a program wrote it; ``ours``: this client's own user did.
    """

    id: int
    number: int
    author: str
    body: str
    at: float
    edited: bool = False
    bot: bool = False
    ours: bool = False
    changed: float = 0.0


@dataclass(frozen=True, slots=True)
class Comments:
    """``comments`` as of ``etag``, oldest first."""

    etag: str
    comments: tuple[Comment, ...]


@dataclass(frozen=True, slots=True)
class ForgePull:
    """A pull request. ``ours`` means that this client's own user opened it, from a branch of the repository itself."""

    number: int
    url: str
    open: bool
    merged: bool
    draft: bool
    branch: str
    head_sha: str
    base: str
    title: str
    body: str
    author: str
    labels: tuple[str, ...]
    ours: bool


def pull_request_marker(ticket: str) -> str:
    """How the body of a ticket's pull request begins; the attempt's number follows."""
    return f"<!-- fleet:ticket={ticket} "


class ForgeClient(Protocol):
    """Every method raises TemporaryError when trying again later is right, UsageError when what was named does not
    exist or is refused as invalid, and ParkError("config") when the token may not do it."""

    def repository(self, repo: str) -> Repository: ...

    def issue(self, repo: str, number: int) -> Issue: ...

    def issues_with_label(self, repo: str, label: str) -> tuple[Issue, ...]:
        """Open issues that carry the label, oldest first; pull requests are left out."""
        ...

    def labelled(self, repo: str, label: str, etag: str = "") -> Page | None:
        """Open issues that carry the label, oldest first (at most 100); None while ``etag`` is still good."""
        ...

    def issue_since(self, repo: str, number: int, etag: str = "") -> Page | None:
        """One issue, none when it was deleted; None while ``etag`` is still good."""
        ...

    def last_labelled(self, repo: str, number: int, label: str) -> LabelEvent | None:
        """Who last put this label on; None when nobody did, or the forge no longer knows."""
        ...

    def comments(self, repo: str, since: float, etag: str = "") -> Comments | None:
        """Comments on all issues and pull requests that were written or changed since that Unix time (at most 100);
        None while ``etag`` is still good."""
        ...

    def create_issue(self, repo: str, title: str, body: str, labels: Sequence[str] = ()) -> Issue: ...

    def permission(self, repo: str, login: str) -> Permission: ...

    def pull_request(self, repo: str, number: int) -> ForgePull: ...

    def read_file(self, repo: str, path: str, branch: str) -> bytes | None:
        """A small text file of a branch; None when there is none."""
        ...

    def find_pull_request(self, repo: str, branch: str, marker: str) -> ForgePull | None:
        """Open or closed: from exactly this branch of the repository (an open one first, then the newest), else our
        own whose body begins with ``marker``."""
        ...

    def create_pull_request(
        self, repo: str, *, title: str, body: str, branch: str, base: str, draft: bool = True
    ) -> ForgePull:
        """Asks once and never again by itself: a creation that answered with an error may have happened (I4)."""
        ...

    def edit_pull_request(self, repo: str, number: int, body: str) -> None: ...

    def close_pull_request(self, repo: str, number: int) -> None:
        """Closes it unmerged; a closed one is left as it is."""
        ...

    def add_labels(self, repo: str, number: int, labels: Sequence[str]) -> None: ...

    def swap_labels(self, repo: str, number: int, wanted: str, unwanted: Sequence[str]) -> None:
        """Puts ``wanted`` on, then takes off those of ``unwanted`` that are there: never without any in between."""
        ...

    def put_comment(self, repo: str, number: int, marker: str, body: str) -> str:
        """Finds our own comment that begins with ``marker`` and edits it if it differs, else creates it.

        ``body`` begins with it, too. Returns the comment's URL.
        """
        ...

    def comments_on(self, repo: str, number: int, beginning: str) -> tuple[Comment, ...]:
        """Those that begin with ``beginning``, oldest first, whoever wrote them."""
        ...

    def login(self, repo: str) -> str:
        """Our own account at the forge of ``repo``; empty for an installation of an app, which has none."""
        ...

    def set_statuses(self, repo: str, sha: str, statuses: Sequence[CommitStatus]) -> None:
        """Sets those commit statuses that do not say exactly this already."""
        ...
