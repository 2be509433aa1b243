"""Orders in comments, by whatever way they are heard of: a webhook, its redelivery, or a sweep.

Every way ends in the same look at the forge's own list, oldest first. A comment is one order, once: the place up to
which one looked is kept, and what is looked at again all the same is told again and changes nothing (``CommentHeard``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fleet.adapters.telemetry import about_ticket, log
from fleet.core.events import CommentHeard, Envelope, Source, Verb
from fleet.core.forge import Comment, ForgeClient
from fleet.core.gates import Approval
from fleet.core.ports import Clock, Ledger
from fleet.core.view import TicketView
from fleet.intake.orders import heard, parse


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a repository's comments were looked at: the newest number, and its Unix time."""

    comment: int
    at: float


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
        asked = place.at
        page = self._forge.comments(repo, asked, self._etags.get((repo, asked), ""))
        if page is None:
            return 0
        taken = 0
        may_write: dict[str, bool] = {}
        for comment in sorted(page.comments, key=lambda one: one.id):
            if comment.id > place.comment:
                taken += self._take(repo, comment, mine, may_write)
                place = Place(comment.id, max(place.at, comment.at))
        if place.comment:
            # Only now: whoever dies before this looks at the same comments again.
            self._places.put(repo, place)
        # Good for exactly this question; the next one is another as soon as there was something new.
        self._etags = {key: etag for key, etag in self._etags.items() if key[0] != repo}
        self._etags[(repo, asked)] = page.etag
        return taken

    def _take(self, repo: str, comment: Comment, views: list[TicketView], may_write: dict[str, bool]) -> bool:
        order = parse(comment.body)
        if order is None:
            return False
        view = addressed(views, comment.number)
        if view is None or comment.id <= view.heard:
            return False
        if comment.author not in may_write and not refusal(comment, True):
            may_write[comment.author] = self._forge.permission(repo, comment.author).may_write
        why = refusal(comment, may_write.get(comment.author, False))
        with about_ticket(view.ticket, view.attempt, self._ledger.incarnation):
            if why:
                self._log.warning("order ignored", comment=comment.id, verb=order.verb.value, why=why)
                return False
            self._tell(view, heard(comment, order, view))
            self._log.info("order taken", comment=comment.id, verb=order.verb.value, by=comment.author)
        return True

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
