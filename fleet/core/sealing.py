"""The state of a ticket in the first line of its status comment, under an HMAC: the forge is the ledger's backup.

Whoever rebuilds a ledger believes such a line only with the key of this home, on the issue it names, from the account
that it names, and only as the fleet wrote it last: ``judge``. Counters are sealed rounded up, because the next comment
may never be written. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import re
from dataclasses import dataclass, field

from fleet.core.allowance import allowance
from fleet.core.budget import Cost
from fleet.core.codec import CodecError, decode, encode
from fleet.core.forge import Comment
from fleet.core.spend import MICRO, Spent
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, TicketLimits
from fleet.core.view import TicketView

BEGINS = "<!-- fleet:status ticket="
VERSION = 2
# The forge's clock and ours may differ by so much, and a write may take so long (seconds). A line that somebody put
# there later than this after it was sealed is an old one that came back.
SKEW_S = 300.0
_MOST_LINE = 32_768
_MOST_CAUSES = 40
_LINE = re.compile(
    r"<!-- fleet:status ticket=([a-z0-9][a-z0-9._-]{0,79}) state=([A-Za-z0-9_=-]+) hmac=([0-9a-f]{64}) -->"
)
# In these states a model may be asked before the next comment is written.
_MAY_SPEND = frozenset({State.QUEUED, State.STARTING, State.RUNNING, State.GATING, State.PUBLISHING, State.BACKING_OFF})
# In these the next attempt may begin before that.
_MAY_BEGIN = frozenset({State.QUEUED, State.BACKING_OFF})
STEPS = 4


@dataclass(frozen=True, slots=True)
class SealedState:
    """What is needed to take a ticket up again. ``v``: 1 lacks everything from ``incarnation`` on.

    ``attempts`` counts the attempt under way, and the next one where it may begin before another comment is written.
    ``usd``, ``model_calls`` and ``tokens`` hold what is reserved, and while models may be asked a quarter of
    the ticket's limit: a new comment is ordered whenever that is used (``spent_steps``).
    ``at``: Unix time of the sealing; ``author``: the account that writes it, empty for an installation of an app.
    """

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
    incarnation: str = ""
    at: float = 0.0
    author: str = ""
    hand_backs: int = 0
    model_calls: int = 0
    tokens: int = 0
    failures: tuple[tuple[str, int], ...] = ()
    head: str = ""
    base_sha: str = ""
    detail: str = ""
    heard: int = 0
    route: tuple[str, ...] = ()
    passed_to: str = ""
    tries: int = 0
    requested_by: str = ""
    accepted_at: float = 0.0
    label: str = ""
    trigger: str = ""
    priority: int = 0
    allow_no_tests: bool = False
    local_path: str = ""
    limits: TicketLimits = field(default_factory=TicketLimits)
    raised_usd: float = 0.0
    raised_last: float = 0.0


def marker(ticket: str) -> str:
    """How the status comment of a ticket begins."""
    return f"{BEGINS}{ticket} "


# --- sealing ---------------------------------------------------------------------------------------------------------
def sealed(
    view: TicketView, spent: Spent | None = None, *, incarnation: str = "", author: str = "", at: float = 0.0
) -> SealedState:
    """``spent``: what the gateway's book says; the view only knows of finished turns."""
    ticket, pull = view.ticket, view.pull_request
    usd, calls, tokens = _rounded_up(view, _used(view, spent))
    return SealedState(
        v=VERSION,
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
        attempts=view.attempt + (view.state in _MAY_BEGIN),
        usd=usd,
        pull_request=pull.number if pull else 0,
        incarnation=incarnation,
        at=at,
        author=author,
        hand_backs=view.hand_backs,
        model_calls=calls,
        tokens=tokens,
        failures=_most(view.failures),
        head=pull.head_sha if pull else "",
        base_sha=pull.base_sha if pull else "",
        detail=view.detail[:400],
        heard=view.heard,
        route=ticket.route,
        passed_to=view.passed_to,
        tries=view.tries,
        requested_by=ticket.requested_by,
        accepted_at=ticket.accepted_at,
        label=ticket.label,
        trigger=ticket.trigger,
        priority=ticket.priority,
        allow_no_tests=ticket.allow_no_tests,
        # A path of somebody's machine is nobody's business at GitHub.
        local_path=ticket.local_path if ticket.repo.startswith("local/") else "",
        limits=ticket.limits,
        raised_usd=view.raised_usd,
        raised_last=view.raised_last,
    )


def spent_steps(ticket: Ticket, cost: Cost) -> int:
    """How many quarters of a limit are used, of the limit that is used most; 0 for a command."""
    if _commands_only(ticket):
        return 0
    limits = ticket.limits
    used = (
        (cost.usd, limits.usd),
        (cost.model_calls, limits.model_calls),
        (cost.input_tokens + cost.output_tokens, limits.tokens),
    )
    return max(math.floor(STEPS * part / most) if most > 0 else 0 for part, most in used)


def _commands_only(ticket: Ticket) -> bool:
    return all(agent.startswith("command:") for agent in (ticket.agent, *ticket.route))


def _used(view: TicketView, spent: Spent | None) -> tuple[float, int, int]:
    """Dollars, calls and tokens; the book of this ledger does not hold what another one did."""
    cost, before = view.cost, view.recovered
    told = (cost.usd, cost.model_calls, cost.input_tokens + cost.output_tokens)
    if spent is None:
        return told
    usd, calls, tokens = (before.usd, before.model_calls, before.tokens) if before else (0.0, 0, 0)
    booked = (
        usd + (spent.micros + spent.reserved) / MICRO,
        calls + spent.calls,
        tokens + spent.input_tokens + spent.output_tokens + spent.cached_tokens,
    )
    return max(told[0], booked[0]), max(told[1], booked[1]), max(told[2], booked[2])


def _rounded_up(view: TicketView, used: tuple[float, int, int]) -> tuple[float, int, int]:
    usd, calls, tokens = used
    # The sixth digit is rounded up, too.
    usd = math.ceil(usd * MICRO - 1e-6) / MICRO
    if view.state not in _MAY_SPEND or _commands_only(view.ticket):
        return usd, calls, tokens
    limits = allowance(view, 1.0).limits
    return (
        _next_step(usd, limits.usd),
        math.ceil(_next_step(calls, limits.model_calls)),
        math.ceil(_next_step(tokens, limits.tokens)),
    )


def _next_step(used: float, limit: float) -> float:
    """The next quarter of ``limit`` above ``used``; never less than ``used``."""
    step = limit / STEPS
    if step <= 0:
        return used
    return max(used, min(limit, (math.floor(used / step) + 1) * step))


def _most(failures: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    kept = sorted(failures, key=lambda pair: -pair[1])[:_MOST_CAUSES]
    return tuple(sorted((cause[:200], count) for cause, count in kept))


def seal(state: SealedState, key: bytes) -> str:
    """One line of HTML comment. ``key``: at least 16 secret bytes."""
    data = base64.urlsafe_b64encode(encode(state)).decode()
    return f"{marker(state.ticket)}state={data} hmac={_mac(data, key)} -->"


# --- believing -------------------------------------------------------------------------------------------------------
def unseal(comment: str, issue: str, key: bytes) -> SealedState | None:
    """The state in a comment on ``issue`` (owner/name#number); None for anything that this key did not seal for it."""
    found = _LINE.fullmatch(comment[:_MOST_LINE].split("\n", 1)[0].strip())
    if found is None or not hmac.compare_digest(_mac(found[2], key), found[3]):
        return None
    try:
        state = decode(base64.urlsafe_b64decode(found[2]), SealedState)
    except (CodecError, binascii.Error):
        return None
    return state if state.issue == issue and state.ticket == found[1] else None


@dataclass(frozen=True, slots=True)
class Doubt:
    """A status comment that is not believed. ``ours``: from an account of the fleet, so that a ticket was there."""

    ticket: str
    ours: bool
    why: str


def judge(comment: Comment, issue: str, key: bytes) -> SealedState | Doubt | None:
    """What a comment on ``issue`` is worth; None when it does not begin as a status comment does."""
    if not comment.body.startswith(BEGINS):
        return None
    ticket = comment.body[len(BEGINS) : len(BEGINS) + 81].split(" ", 1)[0]
    state = unseal(comment.body, issue, key)
    if state is None:
        return Doubt(ticket, comment.ours, "its seal does not fit")
    if state.author.lower() != comment.author.lower() if state.author else not comment.bot:
        return Doubt(ticket, False, f"{comment.author} did not seal it")
    if abs(comment.changed - state.at) > SKEW_S:
        return Doubt(ticket, True, "it was edited after the fleet wrote it")
    if state.state not in _STATES or state.reason not in _REASONS:
        return Doubt(ticket, True, "another version of the fleet wrote it")
    return state


_STATES = frozenset(state.value for state in State)
_REASONS = frozenset(reason.value for reason in Reason)


def _mac(data: str, key: bytes) -> str:
    return hmac.new(key, b"fleet-status-1\0" + data.encode(), hashlib.sha256).hexdigest()
