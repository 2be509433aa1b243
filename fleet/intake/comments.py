"""Orders in comments, by whatever way they are heard of: a webhook, its redelivery, or a sweep.

Every way ends in the same look at the forge's own list, oldest first. A comment is one order, once: the place up to
which one looked is kept, and what is looked at again all the same is told again and changes nothing (``CommentHeard``).

An order that was taken and that its ticket has not heard is told again: the ledger that heard it may be lost before the
status comment had its number. One that was refused is not looked at again, whoever its author is by now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from fleet.adapters.telemetry import about_ticket, log
from fleet.core.events import CommentHeard, Envelope, Source, Verb
from fleet.core.forge import Comment, ForgeClient
from fleet.core.gates import Approval
from fleet.core.ports import Clock, Ledger
from fleet.core.view import TicketView
from fleet.intake.orders import heard, parse

# So many of the orders that were taken last are remembered. Status comments are ten seconds apart, so those that none
# has yet are few.
_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class TakenOrder:
    """An order that was taken: the number of its comment, the ticket that it was for, and its Unix time."""

    comment: int
    ticket: str
    at: float


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a repository's comments were looked at: the newest number, and its Unix time. ``taken``: the orders
    among them, oldest first.
    """

    comment: int
    at: float
    taken: tuple[TakenOrder, ...] = ()


class Places(Protocol):
    """Where the places are kept. Losing them costs questions at the forge, and nothing else."""

    def get(self, repo: str) -> Place | None: ...

    def put(self, repo: str, place: Place) -> None: ...


class CommentIntake:
    """``ledger`` has the rights of people: an order in a comment is a person's word. Used by one thread at a time.

    Raises what the forge and the ledger raise; the same look is then right later.
    """

    def __init__(self, ledger: Ledger, forge: ForgeClient, clock: Clock, places: Places) -> None:
        self._ledger = ledger
        self._forge = forge
        self._clock = clock
        self._places = places
        self._etags: dict[tuple[str, float], str] = {}
        self._log = log("intake")

    def look(self, repo: str, views: Iterable[TicketView]) -> int:
        """Takes what was ordered since the last look; ``views``: every ticket of the repository. Answers how many."""
        mine = list(views)
        if not mine:
            return 0
        place = self._places.get(repo) or Place(0, min(view.ticket.accepted_at for view in mine))
        owed = unheard(place, mine)
        asked = min((place.at, *(one.at for one in owed)))
        page = self._forge.comments(repo, asked, "" if owed else self._etags.get((repo, asked), ""))
        if page is None:
            return 0
        # What is owed and not taken this time was deleted, or is no order any more.
        place = replace(place, taken=tuple(one for one in place.taken if one not in owed))
        owners = {one.comment: one.ticket for one in owed}
        taken = 0
        may_write: dict[str, bool] = {}
        for comment in sorted(page.comments, key=lambda one: one.id):
            if comment.id <= place.comment and comment.id not in owners:
                continue
            whose = [view for view in mine if view.id == owners.get(comment.id, view.id)]
            order = self._take(repo, comment, whose, may_write)
            if order is not None:
                taken += 1
                place = replace(place, taken=(*place.taken, order)[-_REMEMBERED:])
            place = replace(place, comment=max(place.comment, comment.id), at=max(place.at, comment.at))
        if place.comment:
            # Only now: whoever dies before this looks at the same comments again.
            self._places.put(repo, place)
        # Good for exactly this question; the next one is another as soon as there was something new.
        self._etags = {key: etag for key, etag in self._etags.items() if key[0] != repo}
        self._etags[(repo, asked)] = page.etag
        return taken

    def _take(
        self, repo: str, comment: Comment, views: list[TicketView], may_write: dict[str, bool]
    ) -> TakenOrder | None:
        order = parse(comment.body)
        if order is None:
            return None
        view = addressed(views, comment.number)
        if view is None or comment.id <= heard_by(views, view):
            return None
        if comment.author not in may_write and not refusal(comment, True):
            may_write[comment.author] = self._forge.permission(repo, comment.author).may_write
        why = refusal(comment, may_write.get(comment.author, False))
        with about_ticket(view.ticket, view.attempt, self._ledger.incarnation):
            if why:
                self._log.warning("order ignored", comment=comment.id, verb=order.verb.value, why=why)
                return None
            self._tell(view, heard(comment, order, view))
            self._log.info("order taken", comment=comment.id, verb=order.verb.value, by=comment.author)
        return TakenOrder(comment.id, view.id, comment.at)

    def _tell(self, view: TicketView, said: CommentHeard) -> None:
        now = self._clock.now()
        if said.done and said.verb is Verb.APPROVE and said.text:
            # The record first: the gates and the publisher believe it alone, and the word only wakes the ticket.
            self._ledger.put_approval(Approval(view.id, view.attempt, said.text, said.by, now))
        event = Envelope(view.ticket.tenant, view.id, 0, 0, now, said, Source.PEOPLE)
        self._ledger.send(Source.PEOPLE, [event], durable=True)


def refusal(comment: Comment, may_write: bool) -> str:
    """Why an order is none; empty when it is one. Pure."""
    if comment.ours or comment.bot:
        return f"{comment.author} is no person"
    if comment.edited:
        return "it was edited: what stands there need not be its author's word"
    if not may_write:
        return f"{comment.author} may not write to the repository"
    return ""


def addressed(views: Iterable[TicketView], number: int) -> TicketView | None:
    """The newest ticket of issue or pull request ``number``. Pure."""
    mine = [
        view
        for view in views
        if view.ticket.number == number or (view.pull_request is not None and view.pull_request.number == number)
    ]
    return max(mine, key=lambda view: (view.ticket.accepted_at, view.ticket.generation), default=None)


def heard_by(views: Iterable[TicketView], view: TicketView) -> int:
    """The newest comment that ``view`` or another ticket of its issue heard; ``view`` is one of ``views``. Pure.

    What was ordered an earlier ticket is not ordered this one.
    """
    return max(one.heard for one in views if one.ticket.number == view.ticket.number)


def unheard(place: Place, views: Iterable[TicketView]) -> tuple[TakenOrder, ...]:
    """The orders that were taken and that their tickets do not know: the ledger that knew them was lost. Pure."""
    known = {view.id: view.heard for view in views if view.recovered is not None}
    return tuple(one for one in place.taken if one.comment > known.get(one.ticket, one.comment))
