"""What must hold, held against every step. The first promise that is broken ends the run.

The checks know what really happened outside (``Truth``), and believe no view, event or record about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.core.effects import BEGUN_BY, Effect, EffectKind
from fleet.core.events import Envelope, Source, StateChanged
from fleet.core.states import Reason, State
from fleet.core.step import Batch
from fleet.core.ticket import Ticket, shard_of
from fleet.core.view import TicketView
from fleet.simulate.forge import Forge, Pull
from fleet.simulate.record import Record
from supervisor.fold import fold
from supervisor.late import start_of

FINAL = frozenset(state for state in State if not state.active)
_UNCOUNTED = frozenset(
    {Reason.HANDED_BACK, Reason.NEVER_CLAIMED, Reason.PROVIDER_LIMIT, Reason.TRANSIENT, Reason.NEEDS_INPUT}
)
_AT_WORK = frozenset({State.STARTING, State.RUNNING})
_PAUSABLE = _AT_WORK | {State.GATING}
_MOST_MOVES = 200
_REPEATABLE = frozenset({EffectKind.WITHDRAW, EffectKind.STATUS})


class Broken(Exception):
    """A promise was broken. ``promise``: its id; ``ticket``: empty when it is about none."""

    def __init__(self, promise: str, ticket: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise
        self.ticket = ticket
        self.text = text

    def __reduce__(self) -> tuple[type[Broken], tuple[str, str, str]]:
        """So that a world may be played in another process."""
        return Broken, (self.promise, self.ticket, self.text)


@dataclass(slots=True)
class Book:
    """What is remembered of one ticket, counted from what was written or done, not from its view."""

    shadow: TicketView | None = None
    state: State | None = None
    reason: Reason | None = None
    moves: int = 0
    attempts: int = 0
    uncounted: int = 0
    asked_again: int = 0
    seqs: dict[int, int] = field(default_factory=dict)
    claims: dict[int, str] = field(default_factory=dict)
    fence: tuple[int, int] = (0, 0)


class Checks:
    """``passed``: commits that really passed every gate. ``moved`` hears of each change of state."""

    def __init__(self, record: Record, forge: Forge) -> None:
        self._record = record
        self._forge = forge
        self.accepted: dict[str, Ticket] = {}
        self.passed: set[str] = set()
        self.books: dict[str, Book] = {}
        self.steps = 0
        self.superfluous = 0
        self.reached: Counter[str] = Counter()
        self.moved: Callable[[str, StateChanged], None] = lambda *_: None
        record.stepped = self.stepped
        record.begun = self.begun
        forge.pushed = self.pushed
        forge.opened = self.opened

    def book(self, ticket: str) -> Book:
        found = self.books.get(ticket)
        if found is None:
            found = self.books[ticket] = Book()
        return found

    # --- the record ------------------------------------------------------------------------------------------------
    def stepped(self, batch: Batch) -> None:
        self.steps += 1
        for event in batch.log:
            book = self.book(event.ticket)
            book.shadow = fold(book.shadow, event)
            if event.source is Source.ATTEMPTS:
                self._in_order(book, event)
            elif isinstance(event.data, StateChanged):
                self._moves(book, event.ticket, event.data)
        for ticket, (_, view) in batch.views.items():
            book = self.book(ticket)
            if book.shadow != view:
                raise Broken("I17", ticket, "the view that was written is not what its log adds up to")
            book.shadow = view  # equal; being the same object makes the next comparison short
            if ticket not in self.accepted:
                raise Broken("I2", ticket, "a ticket exists that nobody accepted")

    def _in_order(self, book: Book, event: Envelope) -> None:
        before = book.seqs.get(event.attempt, 0)
        if event.seq != before + 1:
            raise Broken("I14", event.ticket, f"event {event.seq} of attempt {event.attempt} was taken after {before}")
        book.seqs[event.attempt] = event.seq

    def _moves(self, book: Book, ticket: str, move: StateChanged) -> None:
        before, book.state = book.state, move.state
        stood, book.reason = book.reason, move.reason
        book.moves += 1
        self.reached[f"{move.state.value}: {move.reason.value}"] += 1
        if book.moves > _MOST_MOVES:
            raise Broken("I16", ticket, f"the ticket moved {book.moves} times and has not come to an end")
        book.asked_again += move.reason is Reason.RETRY_ASKED
        book.uncounted += before in _AT_WORK and move.reason in _UNCOUNTED
        book.uncounted += before in _PAUSABLE and move.reason is Reason.PAUSED
        book.uncounted += stood is Reason.BUDGET and move.reason is Reason.APPROVED
        if move.state is State.GATING and move.attempt:
            self._back(book, ticket, move.attempt)
        if move.state is State.STARTING:
            if move.attempt != book.attempts + 1:
                raise Broken("I8", ticket, f"attempt {move.attempt} follows attempt {book.attempts}")
            book.attempts = move.attempt
            self._within_cap(book, ticket)
        if move.state is State.IN_REVIEW:
            self._in_review(book, ticket)
        if move.reason is Reason.ATTEMPTS_USED_UP:
            self._really_used_up(book, ticket)
        self.moved(ticket, move)

    def _back(self, book: Book, ticket: str, attempt: int) -> None:
        """An attempt that was lost handed over after all: nobody may work in its place."""
        if start_of(ticket, attempt + 1) in self._record.owners:
            raise Broken("I3", ticket, f"attempt {attempt} hands over, and attempt {attempt + 1} was claimed before")
        book.attempts = attempt

    def _within_cap(self, book: Book, ticket: str) -> None:
        cap = self.accepted[ticket].limits.attempts + book.asked_again
        if book.attempts - book.uncounted > cap:
            text = f"attempt {book.attempts} starts, {book.uncounted} do not count, and {cap} are allowed"
            raise Broken("I8", ticket, text)

    def _really_used_up(self, book: Book, ticket: str) -> None:
        cap = self.accepted[ticket].limits.attempts
        if book.attempts - book.uncounted < cap:
            text = f"given up after {book.attempts} attempts, {book.uncounted} of which do not count, of {cap}"
            raise Broken("I18", ticket, text)

    def _in_review(self, book: Book, ticket: str) -> None:
        view = book.shadow
        told = view.pull_request if view else None
        pull = self._forge.pulls.get(told.number) if told else None
        if told is None or pull is None:
            raise Broken("I5", ticket, "the ticket is in review, and the forge has no such pull request")
        if told.head_sha not in self.passed:
            raise Broken("I5", ticket, f"the ticket is in review with {told.head_sha}, which passed no gates")
        if pull.head != told.head_sha and not pull.touched:
            raise Broken("I5", ticket, f"the pull request is at {pull.head}, and the ticket says {told.head_sha}")

    # --- what was begun and done ------------------------------------------------------------------------------------
    def begun(self, effect: Effect, before: str) -> None:
        if effect.kind in _REPEATABLE:
            return
        if before:
            raise Broken("I3", effect.ticket, f"{effect.id} was begun twice: by {before}, then by somebody else")
        if effect.ticket in self._record.cancelled:
            raise Broken("I20", effect.ticket, f"{effect.id} was begun after the ticket was cancelled")
        if effect.kind is EffectKind.START_ATTEMPT:
            view = self._record.view(effect.ticket)
            if view is None or view.attempt < effect.attempt:
                raise Broken("I8", effect.ticket, f"attempt {effect.attempt} begins and was not counted before")
        assert effect.kind in BEGUN_BY

    def claimed(self, ticket: str, attempt: int, owner: str) -> None:
        """A process begins to work as (ticket, attempt)."""
        other = self.book(ticket).claims.setdefault(attempt, owner)
        if other != owner:
            raise Broken("I3", ticket, f"{owner} and {other} both work as attempt {attempt}")

    def pushed(self, ticket: str, fence: tuple[int, int], head: str) -> None:
        """The ticket's branch now is at ``head``, by a publisher of that (attempt, round)."""
        book = self.book(ticket)
        if head not in self.passed:
            raise Broken("I5", ticket, f"{head} was pushed and passed no gates")
        if fence < book.fence:
            raise Broken("I3", ticket, f"(attempt, round) {fence} moved the branch after {book.fence}")
        book.fence = fence

    def opened(self, pull: Pull) -> None:
        mine = self._forge.of(pull.ticket)
        if sum(one.open for one in mine) > 1:
            raise Broken("I4", pull.ticket, f"there are {len(mine)} pull requests")
        self.superfluous += len(mine) > 1
        if pull.head not in self.passed and not pull.touched:
            raise Broken("I5", pull.ticket, f"a pull request was opened at {pull.head}, which passed no gates")

    # --- the end ---------------------------------------------------------------------------------------------------
    def finished(self) -> bool:
        views = (self._record.view(ticket) for ticket in self.accepted)
        return all(view is not None and view.state in FINAL for view in views) and not any(
            shelf.outbox for shelf in self._record.shelves.values()
        )

    def at_the_end(self) -> None:
        """Faults stopped long ago: nothing may be lost, and what was cancelled must be undone."""
        for ticket in self.accepted:
            view = self._record.view(ticket)
            if view is None:
                raise Broken("I1", ticket, "the ticket was accepted and is nowhere")
            if view.state not in FINAL:
                raise Broken("I1", ticket, f"the ticket is still {view.state.value} ({view.reason.value})")
            orders = [name for name in self._record.shelves[shard_of(ticket)].outbox if name.startswith(f"{ticket}:")]
            if orders:
                raise Broken("I16", ticket, f"the order {orders[0]} never comes to an end")
            self._nothing_left_open(view)

    def _nothing_left_open(self, view: TicketView) -> None:
        for pull in self._forge.of(view.id):
            if not pull.open or pull.touched:
                continue
            if view.state is State.CANCELLED:
                raise Broken("I20", view.id, f"the ticket was cancelled, and its pull request {pull.number} is open")
            known = view.pull_request is not None and view.pull_request.number == pull.number
            if view.state is not State.IN_REVIEW and not known:
                text = f"pull request {pull.number} is open, and the ticket is {view.state.value} and does not know it"
                raise Broken("I6", view.id, text)

    @property
    def ends(self) -> Counter[str]:
        views = (self._record.view(ticket) for ticket in self.accepted)
        return Counter(view.state.value for view in views if view is not None)
