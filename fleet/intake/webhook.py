"""What a webhook of GitHub says, once its signature is right. Pure.

Source: GitHub's "Validating webhook deliveries" (HMAC-SHA256 over the raw bytes) and its published payloads.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec

from fleet.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class IssueTold:
    """Something happened to an issue that may start or stop work. ``by``: who did it; ``label``: put on or off."""

    repo: str
    number: int
    action: str
    by: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class PullTold:
    """A pull request was closed or merged."""

    repo: str
    number: int
    by: str


@dataclass(frozen=True, slots=True)
class CommentTold:
    """Somebody wrote a comment on an issue or a pull request."""

    repo: str
    number: int
    by: str


Told = IssueTold | PullTold | CommentTold
_ISSUE = frozenset({"labeled", "unlabeled", "closed", "deleted", "transferred", "reopened"})


class _Login(msgspec.Struct):
    login: str


class _Repo(msgspec.Struct):
    full_name: str


class _Numbered(msgspec.Struct):
    number: int


class _Named(msgspec.Struct):
    name: str


class _Payload(msgspec.Struct):
    """Only what is acted on; the rest of a payload is nobody's business here."""

    action: str = ""
    repository: _Repo | None = None
    sender: _Login | None = None
    issue: _Numbered | None = None
    label: _Named | None = None
    pull_request: _Numbered | None = None


def signed(body: bytes, secret: str, header: str) -> bool:
    """Whether ``X-Hub-Signature-256`` was made with ``secret`` over exactly these bytes. Constant time."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), header.encode("utf-8", "replace"))


def read(event: str, body: bytes, content_type: str = "application/json") -> Told | None:
    """None for what starts and stops nothing. Raises UsageError for what is no payload of GitHub's."""
    if content_type.split(";", maxsplit=1)[0].strip() == "application/x-www-form-urlencoded":
        body = parse_qs(body.decode("utf-8", "replace")).get("payload", [""])[0].encode()
    try:
        payload = msgspec.json.decode(body, type=_Payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"This is no webhook payload: {error}.", "Choose the content type application/json."
        ) from error
    if payload.repository is None:
        return None
    by = payload.sender.login if payload.sender else ""
    repo = payload.repository.full_name
    if event == "issues" and payload.issue is not None and payload.action in _ISSUE:
        return IssueTold(repo, payload.issue.number, payload.action, by, payload.label.name if payload.label else "")
    # An edited comment is no new order, and a deleted one is none.
    if event == "issue_comment" and payload.issue is not None and payload.action == "created":
        return CommentTold(repo, payload.issue.number, by)
    if event == "pull_request" and payload.pull_request is not None and payload.action == "closed":
        return PullTold(repo, payload.pull_request.number, by)
    return None
