"""Attempts that do nothing, for ``fleet bench``: the fleet's own cost without git, sandbox and processes."""

from __future__ import annotations

from collections.abc import Callable

from fleet.core.events import (
    AgentStarted,
    AttemptStarted,
    AttemptStopped,
    ChangeReady,
    Envelope,
    EventData,
    Source,
    WorkspaceReady,
)
from fleet.core.ports import AttemptChannel, Clock, Ids, LiveAttempt
from fleet.core.sandbox import Tier
from fleet.core.ticket import Ticket

COMMIT = "0" * 39 + "1"
TREE = "0" * 39 + "2"
BASE = "0" * 39 + "3"
_NULL_PID = 0


def said(ticket: Ticket, incarnation: str) -> tuple[EventData, ...]:
    """Everything a null attempt says, in order."""
    return (
        AttemptStarted("bench", _NULL_PID, ticket.agent, incarnation),
        WorkspaceReady(BASE, 0, 0.0, 0.0),
        AgentStarted(ticket.agent, Tier.NULL.value),
        ChangeReady("null", COMMIT, TREE, BASE, 1, 1, 1),
        AttemptStopped("done"),
    )


class NullLauncher:
    """Implements ``fleet.core.ports.Launcher``: ``start`` claims and finishes the attempt before it returns.

    ``started(ticket)`` is called between the attempt's first word and the others: ``fleet bench`` waits there until
    the ticket is running, as it would be under a real attempt, so that no state is passed over.
    """

    def __init__(
        self,
        channel: AttemptChannel,
        clock: Clock,
        ids: Ids,
        incarnation: Callable[[], str],
        started: Callable[[str], None] | None = None,
    ) -> None:
        self._started = started
        self._channel = channel
        self._clock = clock
        self._ids = ids
        self._incarnation = incarnation

    def start(self, ticket: str, attempt: int) -> LiveAttempt:
        view = self._channel.view(ticket)
        if view is not None and self._channel.claim(ticket, attempt, self._ids.hex(16)):
            tenant, now = view.ticket.tenant, self._clock.now()
            events = [
                Envelope(tenant, ticket, attempt, seq, now, data, Source.ATTEMPTS)
                for seq, data in enumerate(said(view.ticket, self._incarnation()), start=1)
            ]
            if self._started is not None:
                self._channel.send(events[:1])
                self._started(ticket)
                del events[0]
            self._channel.send(events)
        return LiveAttempt(ticket, attempt, _NULL_PID)

    def find(self, ticket: str, attempt: int) -> LiveAttempt | None:
        return None

    def live(self) -> tuple[LiveAttempt, ...]:
        return ()

    def wait(self, attempt: LiveAttempt, timeout: float) -> bool:
        return True

    def kill(self, attempt: LiveAttempt) -> bool:
        return True
