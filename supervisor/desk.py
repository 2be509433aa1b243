"""The admission desk: keeps the entity's state, absorbs requests, grants, reconciles once a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fleet.core.codec import CodecError, decode, encode
from fleet.core.events import Envelope, SlotGranted, Source
from fleet.core.states import State
from fleet.core.step import Shards
from fleet.core.view import Hold, TicketView
from supervisor.admission import Caps, Choice, Message, Request, choose, has_pull, reconcile, request_of

RECONCILE_EVERY = 60.0


class Desk:
    """Owned by the supervisor process that holds the lease of ``adm``, under that lease's ``epoch``."""

    def __init__(self, store: Shards, epoch: int, caps: Caps, views: Callable[[], Iterable[TicketView]]) -> None:
        self.epoch = epoch
        self._store = store
        self._caps = caps
        self._views = views
        waiting, grants, self._pulls, self.cursor = store.load_admission()
        self._waiting = {key: decode(raw, Request) for key, raw in waiting.items()}
        self._grants = {key: decode(raw, Request) for key, raw in grants.items()}
        self._why: dict[str, str] = {}
        self._reconciled: float | None = None
        # Asked anew each second; until the first answer nothing is given out.
        self.held: Hold | None = store.held()
        self._held_before = self.held

    def absorb(self, rows: Sequence[tuple[str, bytes]], wall: float, mono: float) -> None:
        """Takes the shards' messages, gives out free places, and tells those who got one.

        The grant is written before it is told. A crash in between is mended at the next look around, which the
        next owner begins with: grants are told again, and a ticket that knows ignores it.
        """
        operations: list[str | bytes] = []
        told: set[str] = set()
        for cursor, raw in rows:
            self.cursor = cursor
            try:
                message = decode(raw, Message)
            except CodecError:
                continue
            self._take(message, operations)
            told.add(message.request.key)
        if rows:
            operations += ["K", self.cursor]
        looks_around = self._reconciled is None or mono - self._reconciled >= RECONCILE_EVERY
        if not rows and not looks_around and self.held == self._held_before:
            return  # nothing changed; to choose among thousands that wait would be the better part of every pass
        self._held_before = self.held
        if looks_around:
            self._reconcile(operations)
            self._reconciled = mono
            told.update(self._grants)
        choice = self._choice()
        for request in choice.granted:
            self._grants[request.key] = request
            told.add(request.key)
            operations += ["G", request.key, encode(request)]
        self._explain(choice, operations)
        if operations:
            self._store.step_admission(self.epoch, operations)
        granted = [_granted(self._grants[key], wall) for key in sorted(told & self._grants.keys())]
        if granted:
            self._store.grant(granted)

    def _choice(self) -> Choice:
        if self.held is None:
            return choose(self._waiting, self._grants, self._pulls, self._caps)
        why = f"the whole fleet is paused by {self.held.by}; `fleet resume --all` lets it go on"
        return Choice((), {one.ticket: why for one in self._waiting.values() if one.key not in self._grants})

    def _take(self, message: Message, operations: list[str | bytes]) -> None:
        request = message.request
        match message.verb:
            case "ask":
                self._waiting[request.key] = request
                operations += ["W", request.key, encode(request)]
            case "return":
                self._waiting.pop(request.key, None)
                self._grants.pop(request.key, None)
                operations += ["w", request.key, "g", request.key]
            case "pr_open":
                self._pulls[request.ticket] = request.repo
                operations += ["P", request.ticket, request.repo]
            case "pr_closed":
                self._pulls.pop(request.ticket, None)
                operations += ["p", request.ticket]

    def _reconcile(self, operations: list[str | bytes]) -> None:
        """Drops places, requests and open pull requests whose ticket no longer has or wants them.

        A ticket that waits for an answer to a request of which nothing is known here is taken in again, and so is a
        pull request.
        """
        views = {view.id: view for view in self._views()}
        for key in reconcile({**self._waiting, **self._grants}, views):
            self._grants.pop(key, None)
            self._waiting.pop(key, None)
            operations += ["g", key, "w", key]
        for view in views.values():
            if view.state is State.QUEUED and view.asked == view.attempt + 1:
                request = request_of(view, view.asked)
                if request.key not in self._waiting and request.key not in self._grants:
                    self._waiting[request.key] = request
                    operations += ["W", request.key, encode(request)]
            if has_pull(view) and view.id not in self._pulls:
                self._pulls[view.id] = view.ticket.repo
                operations += ["P", view.id, view.ticket.repo]
        for ticket in [ticket for ticket in self._pulls if not has_pull(views.get(ticket))]:
            self._pulls.pop(ticket)
            operations += ["p", ticket]

    def _explain(self, choice: Choice, operations: list[str | bytes]) -> None:
        for ticket, text in choice.why.items():
            if self._why.get(ticket) != text:
                operations += ["Y", ticket, text]
        for ticket in self._why.keys() - choice.why.keys():
            operations += ["y", ticket]
        self._why = dict(choice.why)


def _granted(request: Request, wall: float) -> Envelope:
    return Envelope(request.tenant, request.ticket, request.attempt, 0, wall, SlotGranted(), Source.ADMISSION)
