"""Tickets for tests, made by the same rules as intake makes them."""

from __future__ import annotations

from typing import Any

from fleet.core.ticket import Ticket, branch_name, text_hash, ticket_id


def ticket(number: int = 1, *, repo: str = "local/demo", agent: str = "command:true", **changes: Any) -> Ticket:
    title, body = changes.pop("title", f"Ticket {number}"), changes.pop("body", "Do it.")
    values: dict[str, Any] = {
        "id": ticket_id("default", repo, number, 1),
        "tenant": "default",
        "repo": repo,
        "number": number,
        "generation": 1,
        "title": title,
        "body": body,
        "text_hash": text_hash(title, body),
        "base": "main",
        "branch": branch_name(number, 1, title),
        "agent": agent,
        "requested_by": "tester",
        "accepted_at": 1_700_000_000.0,
    }
    return Ticket(**{**values, **changes})
