"""The state of a ticket in the first line of its status comment, under an HMAC: the forge is the ledger's backup.

Whoever rebuilds a ledger believes such a line only with the key of this home, and only on the issue it names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from fleet.core.codec import CodecError, decode, encode
from fleet.core.view import TicketView

_LINE = re.compile(
    r"<!-- fleet:status ticket=([a-z0-9][a-z0-9._-]{0,79}) state=([A-Za-z0-9_=-]+) hmac=([0-9a-f]{64}) -->"
)


@dataclass(frozen=True, slots=True)
class SealedState:
    """What is needed to take a ticket up again; ``usd`` and ``attempts`` are rounded up by whoever rebuilds."""

    v: int
    ticket: str
    tenant: str
    issue: str
    generation: int
    state: str
    reason: str
    branch: str
    base: str
    agent: str
    text_hash: str
    attempts: int
    usd: float
    pull_request: int = 0


def marker(ticket: str) -> str:
    """How the status comment of a ticket begins."""
    return f"<!-- fleet:status ticket={ticket} "


def sealed(view: TicketView) -> SealedState:
    ticket = view.ticket
    return SealedState(
        v=1,
        ticket=ticket.id,
        tenant=ticket.tenant,
        issue=ticket.issue,
        generation=ticket.generation,
        state=view.state.value,
        reason=view.reason.value,
        branch=ticket.branch,
        base=ticket.base,
        agent=ticket.agent,
        text_hash=ticket.text_hash,
        attempts=view.attempt,
        usd=round(view.cost.usd, 6),
        pull_request=view.pull_request.number if view.pull_request else 0,
    )


def seal(state: SealedState, key: bytes) -> str:
    """One line of HTML comment. ``key``: at least 16 secret bytes."""
    data = base64.urlsafe_b64encode(encode(state)).decode()
    return f"{marker(state.ticket)}state={data} hmac={_mac(data, key)} -->"


def unseal(comment: str, issue: str, key: bytes) -> SealedState | None:
    """The state in a comment on ``issue`` (owner/name#number); None for anything that this key did not seal."""
    found = _LINE.fullmatch(comment.split("\n", 1)[0].strip())
    if found is None or not hmac.compare_digest(_mac(found[2], key), found[3]):
        return None
    try:
        state = decode(base64.urlsafe_b64decode(found[2]), SealedState)
    except (CodecError, binascii.Error):
        return None
    return state if state.issue == issue and state.ticket == found[1] else None


def _mac(data: str, key: bytes) -> str:
    return hmac.new(key, b"fleet-status-1\0" + data.encode(), hashlib.sha256).hexdigest()
