"""Webhooks: what is sent to whom, signed over the raw bytes, logged before it is sent."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

from fleet.forge import shapes, shapes_git
from fleet.forge.db import Row
from fleet.forge.errors import ApiError, custom
from fleet.forge.store import Repo, Tx

EVENTS = frozenset(
    {"ping", "push", "issues", "issue_comment", "pull_request", "pull_request_review", "check_run", "status", "label"}
)


def signature(secret: str, body: bytes) -> str:
    """Value of ``X-Hub-Signature-256``."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def loopback(url: str) -> bool:
    """Whether ``url`` is plain HTTP to this machine; nothing else is ever called."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme != "http" or not host or parts.username is not None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def wanted_by(tx: Tx, repo: Repo, event: str) -> list[Row]:
    """The active webhooks that want ``event``."""
    hooks = tx.rows.all("SELECT * FROM hooks WHERE repo_id = ? AND active = 1", repo.id)
    return [hook for hook in hooks if {event, "*"} & set(json.loads(hook["events"]))]


def emit(tx: Tx, repo: Repo, event: str, action: str | None, payload: dict[str, Any], sender_id: int) -> None:
    """Puts ``event`` into the log of every webhook that wants it; sent after the commit."""
    wanting = wanted_by(tx, repo, event)
    if not wanting:
        return
    sender = shapes.user_by_id(tx, sender_id)
    body: dict[str, Any] = {} if action is None else {"action": action}
    body |= payload | {"repository": shapes.repository(tx, repo), "sender": sender}
    for hook in wanting:
        _queue(tx, hook["id"], event, action, json.dumps(body, separators=(",", ":")).encode())


def _queue(tx: Tx, hook_id: int, event: str, action: str | None, body: bytes, guid: str = "") -> int:
    name = tx.store.ids.hex(32)
    fresh = f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"
    return tx.rows.run(
        "INSERT INTO deliveries (hook_id, guid, event, action, body, redelivery, phase, status, status_code, response,"
        " duration, delivered_at) VALUES (?, ?, ?, ?, ?, ?, 'waiting', 'pending', 0, '', 0, ?)",
        hook_id, guid or fresh, event, action, body, int(bool(guid)), tx.now,
    )  # fmt: skip


def create(tx: Tx, repo: Repo, config: dict[str, Any], events: list[str], active: bool, sender_id: int) -> Row:
    """Adds a webhook and queues its ping. Raises ApiError 422 for any address that is not on this machine."""
    url = str(config.get("url", ""))
    if not loopback(url):
        raise custom("Hook", "url is not supported because it isn't a plain http address on this machine")
    content_type = str(config.get("content_type", "form"))
    unknown = set(events) - EVENTS - {"*"}
    if content_type not in ("json", "form") or unknown:
        raise custom("Hook", f"content_type or events are not supported: {content_type} {sorted(unknown)}")
    if tx.rows.one(
        "SELECT 1 FROM hooks WHERE repo_id = ? AND url = ? AND events = ?", repo.id, url, json.dumps(events)
    ):
        raise custom("Hook", "Hook already exists on this repository")
    hook_id = tx.rows.run(
        "INSERT INTO hooks (repo_id, url, secret, content_type, events, active, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        repo.id, url, str(config.get("secret", "")), content_type, json.dumps(events), int(active), tx.now, tx.now,
    )  # fmt: skip
    row = get(tx, repo, hook_id)
    ping(tx, repo, row, sender_id)
    return row


def get(tx: Tx, repo: Repo, hook_id: int) -> Row:
    row = tx.rows.one("SELECT * FROM hooks WHERE repo_id = ? AND id = ?", repo.id, hook_id)
    if row is None:
        raise ApiError(404, "Not Found")
    return row


def ping(tx: Tx, repo: Repo, row: Row, sender_id: int) -> None:
    """Queues a ping to one webhook, whatever events it wants."""
    body = {
        "zen": "Keep it logically awesome.",
        "hook_id": row["id"],
        "hook": shapes_git.hook(tx, repo, row),
        "repository": shapes.repository(tx, repo),
        "sender": shapes.user_by_id(tx, sender_id),
    }
    _queue(tx, row["id"], "ping", None, json.dumps(body).encode())


def redeliver(tx: Tx, repo: Repo, hook_id: int, delivery_id: int) -> None:
    """Sends a logged delivery again: same bytes, same GUID, as GitHub does."""
    get(tx, repo, hook_id)
    row = tx.rows.one("SELECT * FROM deliveries WHERE hook_id = ? AND id = ?", hook_id, delivery_id)
    if row is None:
        raise ApiError(404, "Not Found")
    _queue(tx, hook_id, row["event"], row["action"], row["body"], row["guid"])
