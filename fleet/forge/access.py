"""Who may do what: a token's scopes, and its user's level on the repository. The weaker of the two counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

from fleet.core.errors import UsageError
from fleet.forge.db import Rows

READ = 1
WRITE = 2
ADMIN = 3
LEVELS = {"none": 0, "read": READ, "triage": READ, "write": WRITE, "maintain": WRITE, "admin": ADMIN}

# What a token can be limited to, with GitHub's names for fine-grained permissions. `pages` opens the pages for people.
SCOPES = (
    "metadata",
    "contents",
    "issues",
    "pull_requests",
    "checks",
    "statuses",
    "workflows",
    "webhooks",
    "administration",
    "pages",
)
EVERYTHING = tuple(f"{name}:write" for name in SCOPES)


def digest(secret: str) -> str:
    """What is stored of a secret that has 128 or more random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_scopes(scopes: Collection[str]) -> dict[str, int]:
    """``contents:write`` and the like → levels. Every token reads metadata. Raises UsageError on an unknown scope."""
    parsed = {"metadata": READ}
    for scope in scopes:
        name, _, level = scope.partition(":")
        if name not in SCOPES or level not in ("read", "write"):
            raise UsageError(
                f"{scope!r} is not a scope of the forge.", f"Use NAME:read or NAME:write, NAME one of {SCOPES}."
            )
        parsed[name] = max(parsed.get(name, 0), LEVELS[level])
    return parsed


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as told by a token that was found. ``repos`` None: every repository the user may see."""

    user_id: int
    login: str
    name: str
    email: str
    token: str
    scopes: dict[str, int]
    repos: frozenset[str] | None

    def scope(self, name: str) -> int:
        return self.scopes.get(name, 0)


def nobody() -> Caller:
    """Whoever shows no token, where the forge lets them read what is public."""
    return Caller(0, "", "", "", "", parse_scopes(("contents:read", "issues:read", "pull_requests:read")), None)


def caller_of(rows: Rows, token_digest: str) -> Caller | None:
    """The caller with this token's digest, or None."""
    row = rows.one(
        "SELECT t.digest, t.scopes, t.repos, u.id, u.login, u.name, u.email"
        " FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.digest = ?",
        token_digest,
    )
    if row is None:
        return None
    repos = None if row["repos"] is None else frozenset(json.loads(row["repos"]))
    scopes = json.loads(row["scopes"])
    return Caller(row["id"], row["login"], row["name"], row["email"], row["digest"], scopes, repos)


def user_level(rows: Rows, repo_id: int, user_id: int) -> int:
    """What the user itself may on a repository: the permission given, at least read on a public one."""
    row = rows.one(
        "SELECT r.private, p.level FROM repos r LEFT JOIN permissions p ON p.repo_id = r.id AND p.user_id = ?"
        " WHERE r.id = ?",
        user_id,
        repo_id,
    )
    if row is None:
        return 0
    return max(LEVELS[row["level"] or "none"], 0 if row["private"] else READ)


def level_of(rows: Rows, repo_id: int, full_name: str, caller: Caller) -> int:
    """What the caller may on a repository: nothing when its token is not for it."""
    if caller.repos is not None and full_name.lower() not in caller.repos:
        return 0
    return user_level(rows, repo_id, caller.user_id)
