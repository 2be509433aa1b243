"""What the wake-ups on the queue ``publish`` call. A wake-up is only a hint: the outbox says what is wanted."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import suppress

from fleet.adapters.crash import crash_here
from fleet.adapters.telemetry import log
from fleet.adapters.teller import Teller
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import ParkError, TemporaryError, UsageError
from fleet.core.events import (
    EventData,
    PublishFailed,
    PublishProblem,
    PublishStarted,
    Source,
    StatusPosted,
    Withdrawn,
)
from fleet.core.ports import Clock, Ledger
from fleet.core.sealing import sealed
from fleet.core.states import State
from fleet.core.view import TicketView
from fleet.publisher.markdown import visible
from fleet.publisher.service import Publisher

ROLE = "publisher"
# A ticket that changes faster than it can be shown has another order waiting.
_LOOKS = 5
_AT_REST = frozenset({State.PARKED, State.REJECTED, State.ESCALATED, State.CANCELLED})


class PublisherTasks:
    """``host`` names this machine in claims; ``stopping``: whether this worker was told to go. Every method returns
    silently when its order does not stand.
    """

    def __init__(
        self,
        ledger: Ledger,
        publisher: Publisher,
        clock: Clock,
        host: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._teller = Teller(ledger, Source.PUBLISHER, clock)
        self._host = host
        self._stopping = stopping
        self._calls = itertools.count(1)

    def pull_request(self, ticket: str, attempt: int, round: int) -> None:
        """Publishes once and tells how it ended."""
        view = self._ledger.view(ticket)
        if view is None:
            return
        effect = self._begin(Effect(EffectKind.PUBLISH, ticket, attempt, round, view.turn))
        if effect is None:
            return
        with self._teller.owing(view, effect):
            self._begun(view, effect)

    def hand_back(self) -> tuple[str, ...]:
        """This worker must go: publications under way are ordered again, and nothing is counted. Answers their ids.

        What one had already done is found by the next. Status and withdrawal are told again by themselves.
        """
        detail = "The publisher was stopped."
        return self._teller.hand_back(lambda order: PublishFailed(order.round, PublishProblem.HANDED_BACK, detail))

    def _begun(self, view: TicketView, effect: Effect) -> None:
        attempt, round = effect.attempt, effect.round
        crash_here("publisher.begun")
        bug: Exception | None = None
        # Heartbeats end before the last word: one that came after it would count for the next turn.
        with self._teller.beating(view, attempt, effect):
            self._teller.tell(view, attempt, PublishStarted(round, view.head))
            try:
                said: EventData = self._publisher.publish(view, attempt, round)
            except Exception as error:
                # A boundary: a bug of ours is told with its words; raised again, it stands in the log and in Flower.
                bug = error
                detail = f"The publisher ended in {type(error).__name__}: {visible(str(error), 500)}"
                said = PublishFailed(round, PublishProblem.FORGE_DOWN, detail)
        if isinstance(said, PublishFailed) and said.problem is PublishProblem.MOVED:
            # Another publisher went on meanwhile: what this one opened must not stay behind unknown.
            with suppress(TemporaryError):
                self._tell_unknown(self._ledger.view(view.id) or view)
        self._teller.tell(view, attempt, said)
        if bug is not None:
            raise bug

    def status(self, ticket: str, attempt: int, round: int) -> None:
        """Brings the status comment up to date."""
        view = self._ledger.view(ticket)
        if view is not None and self._begin(Effect(EffectKind.STATUS, ticket, attempt, round)) is not None:
            shown: list[TicketView] = [view]
            try:
                self._teller.insist(lambda: shown.append(self._show(shown[0])))
            except (ParkError, UsageError) as error:
                # A token that may not comment must not hold the work up; the ticket's log has what people need.
                log("publisher").warning("status not posted", ticket=ticket, why=str(error))
            view = shown[-1]
            if view.state in _AT_REST and view.pull_request is None and view.head:
                self._teller.insist(lambda: self._tell_unknown(view))
            self._teller.tell(view, attempt, StatusPosted(view.version))

    def withdraw(self, ticket: str, attempt: int, round: int) -> None:
        """Closes the pull request of a cancelled ticket (I20). ``view.withdraw`` is its number."""
        view = self._ledger.view(ticket)
        if view is None:
            return
        effect = self._begin(Effect(EffectKind.WITHDRAW, ticket, attempt, round, view.withdraw))
        if effect is None:
            return
        self._teller.insist(lambda: self._publisher.withdraw(view, view.withdraw, effect.data or view.cancel))
        self._teller.tell(view, attempt, Withdrawn(view.withdraw, round))

    def _show(self, view: TicketView) -> TicketView:
        """Shows the ticket as it is now, and answers what was shown last: between two tries the ledger may have been
        lost, and an old state must not be sealed over that of a new incarnation.

        Who stands still between looking and writing puts an old state over a newer one. So everybody looks again after
        writing, and the newest is written last.
        """
        now = self._ledger.view(view.id) or view
        for _ in range(_LOOKS):
            self._publisher.status(now)
            after = self._ledger.view(view.id)
            if after is None or sealed(after) == sealed(now):
                break
            now = after
        return now

    def _tell_unknown(self, view: TicketView) -> None:
        """Tells of a pull request that the ticket does not know. Raises TemporaryError while the forge is away."""
        found = self._publisher.unknown(view)
        if found is not None:
            self._teller.tell(view, view.attempt, found)

    def _begin(self, effect: Effect) -> Effect | None:
        """The order as it stands in the outbox, claimed; None when it was withdrawn, done or begun by another call."""
        ordered = None if self._stopping() else self._ledger.outbox(effect.id, effect.ticket)
        # A name for this very call: two wake-ups of one order in one process must not both be let in.
        owner = f"{self._host}:{os.getpid()}:{next(self._calls)}"
        return ordered if ordered is not None and self._ledger.begin(ROLE, ordered, owner) else None
