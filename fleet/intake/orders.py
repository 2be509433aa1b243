"""``/fleet …`` in a comment: what it orders, and what becomes of it. Pure.

Only a comment that begins with ``/fleet`` is an order, and only its first line, but for ``steer``. Everything else in
it is text of people, and text is data (I21).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import assert_never

from fleet.core.allowance import amount
from fleet.core.errors import UsageError
from fleet.core.events import CommentHeard, Verb
from fleet.core.forge import Comment
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.intake.text import visible

MOST_WORDS = 2000
_ORDER = re.compile(r"/fleet(?:[ \t]+(?P<verb>\S+)(?:[ \t]+(?P<rest>.*))?)?[ \t]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
HELP = "say /fleet why, steer WORDS, retry, cancel [WHY], approve $N or COMMIT, pause, resume"
_AGAIN = frozenset({State.PARKED, State.REJECTED, State.ESCALATED, State.BACKING_OFF})


@dataclass(frozen=True, slots=True)
class Order:
    """``text``: the rest of the first line, for ``steer`` the rest of the comment."""

    verb: Verb
    text: str = ""


def parse(body: str) -> Order | None:
    """None for a comment that orders nothing: it does not begin with ``/fleet``, or hides something in that line."""
    first, _, rest = body.replace("\r\n", "\n").replace("\r", "\n").partition("\n")
    found = _ORDER.fullmatch(first)
    if found is None or visible(first)[1]:
        return None
    word, text = found["verb"] or Verb.HELP.value, (found["rest"] or "").strip()
    known = {verb.value: verb for verb in Verb if verb is not Verb.OTHER}
    verb = known.get(word.lower(), Verb.OTHER)
    if verb is Verb.STEER:
        text = f"{text}\n{rest}".strip()
    return Order(verb, " ".join(visible(text)[0].split())[:MOST_WORDS])


def heard(comment: Comment, order: Order, view: TicketView) -> CommentHeard:
    """What is put into the ticket's log: whether something is done, and what people are told."""

    def answered(done: bool, answer: str, text: str = "", usd: float = 0.0) -> CommentHeard:
        return CommentHeard(comment.id, comment.author, order.verb, done, answer, text, usd)

    state = f"it is {view.state.value.replace('_', ' ')} ({view.reason.value.replace('_', ' ')})"
    match order.verb:
        case Verb.HELP | Verb.OTHER:
            return answered(False, HELP)
        case Verb.WHY:
            return answered(False, f"{state}. {view.detail or view.activity}".strip()[:400])
        case Verb.STEER:
            if not view.listens or not order.text:
                return answered(False, f"nobody can be told: {state}" if order.text else "say what it should know")
            later = "its next agent is told; say /fleet retry" if view.state.terminal else "the agent is told"
            return answered(True, later, order.text)
        case Verb.RETRY:
            return answered(True, "it is tried again") if view.state in _AGAIN else answered(False, state)
        case Verb.CANCEL:
            return answered(False, state) if view.state.terminal else answered(True, "it is cancelled", order.text)
        case Verb.PAUSE:
            return answered(True, "it pauses") if view.state.pausable else answered(False, state)
        case Verb.RESUME:
            return answered(True, "it goes on") if view.reason is Reason.PAUSED else answered(False, state)
        case Verb.APPROVE:
            return _approved(comment, order, view, state)
        case _ as never:
            assert_never(never)


def _approved(comment: Comment, order: Order, view: TicketView, state: str) -> CommentHeard:
    """Money, or what policy asks about in exactly the commit that was named: who writes it must have seen which."""

    def answered(done: bool, answer: str, text: str = "", usd: float = 0.0) -> CommentHeard:
        return CommentHeard(comment.id, comment.author, order.verb, done, answer, text, usd)

    said = order.text
    if _COMMIT.fullmatch(said) and not said.isdigit():
        asks = view.state is State.PARKED and view.reason is Reason.APPROVAL
        if not asks or not view.head.startswith(said):
            return answered(False, f"nothing is asked about commit {said[:12]}: {state}")
        return answered(True, f"commit {said[:12]} is allowed; its gates run", view.head)
    if view.state.terminal:
        return answered(False, state)
    try:
        usd = amount(said)
    except UsageError as error:
        return answered(False, f"{error.message} Or name the commit that policy asks about.")
    return answered(True, f"it may spend ${usd:g} more", usd=usd)
