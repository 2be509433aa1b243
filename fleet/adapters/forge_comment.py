"""Comments from GitHub's JSON."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from fleet.core.forge import Comment


def iso(at: float) -> str:
    """A Unix time as GitHub writes it: whole seconds, UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain_comment(row: Any, mine: Callable[[str, str], bool]) -> Comment:
    """``mine`` tells from a login and its kind whether it is our own user; a deleted user has neither."""
    user = row["user"] or {}
    login, kind = user.get("login", ""), user.get("type", "")
    return Comment(
        id=row["id"],
        number=int(row["issue_url"].rsplit("/", 1)[-1]),
        author=login,
        body=row["body"] or "",
        at=datetime.datetime.fromisoformat(row["created_at"]).timestamp(),
        edited=row["updated_at"] != row["created_at"],
        bot=kind == "Bot",
        ours=bool(login) and mine(login, kind),
        changed=datetime.datetime.fromisoformat(row["updated_at"]).timestamp(),
    )
