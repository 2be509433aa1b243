"""A revoke or terminate on Flower's task page is a person's word: the ticket of that task is cancelled (I20).

The word goes into the stream of people, as ``fleet cancel`` would send it, so that each stream keeps its one source.
Whoever can talk to the broker can say it: it can stop work, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet.adapters.ledger import RedisLedger
from fleet.adapters.telemetry import log
from fleet.core.effects import EffectKind
from fleet.core.errors import TemporaryError
from fleet.core.events import CancelRequested, Envelope, Source
from fleet.core.ports import Clock
from fleet.core.states import State
from fleet.core.view import TicketView

BY = "flower"
_WORK = {
    EffectKind.START_ATTEMPT.value: frozenset({State.STARTING, State.RUNNING}),
    EffectKind.RUN_GATES.value: frozenset({State.GATING}),
    EffectKind.PUBLISH.value: frozenset({State.PUBLISHING}),
}


def current(task_id: str, view: TicketView | None) -> bool:
    """Whether the task is what the ticket does now; the task of an earlier attempt or round says nothing any more."""
    ticket, kind, attempt, round_ = (*task_id.split(":"), "", "", "")[:4]
    if view is None or view.id != ticket or view.state not in _WORK.get(kind, ()):
        return False
    # An attempt is started once, so that its order's round says nothing.
    return attempt == str(view.attempt) and (kind == EffectKind.START_ATTEMPT.value or round_ == str(view.round))


def canceller(ledger: RedisLedger, clock: Clock) -> Callable[[str], None]:
    """What a Celery worker calls with the task id of each revoke. Never raises: the worker's control thread goes on.

    ``ledger``: the one of Role.PEOPLE.
    """

    def revoked(task_id: str) -> None:
        ticket = task_id.partition(":")[0]
        try:
            view = ledger.view(ticket)
            if view is None or not current(task_id, view):
                log().warning("a revoke of a task that is over changes nothing", task=task_id)
                return
            word = CancelRequested(BY, "revoked on Flower's task page")
            event = Envelope(view.ticket.tenant, ticket, 0, 0, clock.now(), word, Source.PEOPLE)
            ledger.send(Source.PEOPLE, [event], durable=True)
        except TemporaryError as error:
            log().error("a revoke was lost; use `fleet cancel`", task=task_id, error=str(error))

    return revoked
