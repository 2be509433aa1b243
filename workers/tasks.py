"""What a Celery worker of the queue ``agents`` does with a wake-up: start the attempt, or find it, and wait for it.

The message is only a hint (it may be lost, doubled or forged); the ledger says whether the attempt is wanted, and the
attempt's own claim decides who may do it. The wait only serves people: Flower shows the attempt as a running task.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet.adapters.crash import crash_here
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import TemporaryError
from fleet.core.ports import Clock, Launcher, Ledger, LiveAttempt
from fleet.core.states import State

_POLL_S = 2.0
_START_WITHIN_S = 20.0
_START_WAIT_S = 0.5


class AgentTasks:
    """``stopping``: asked about every two seconds; True makes a waiting task return early (the attempt lives on)."""

    def __init__(
        self,
        ledger: Ledger,
        launcher: Launcher,
        clock: Clock,
        host: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        self._launcher = launcher
        self._clock = clock
        self._host = host
        self._stopping = stopping

    def attempt(self, ticket_id: str, attempt: int, round: int = 0) -> str:
        """Starts or re-attaches to an attempt and waits for its end. Returns one word for people.

        Raises TemporaryError when the ledger or the attempt host stays away; the supervisor then wakes again.
        """
        live = self._launcher.find(ticket_id, attempt)
        if live is None:
            if not self._wanted(ticket_id, attempt):
                return "not wanted"
            if self._stopping():
                return f"not begun on {self._host}, which stops"
            crash_here("attempts.before_start")
            live = self._start(ticket_id, attempt)
            crash_here("attempts.after_start")
        return self.wait(live)

    def wait(self, live: LiveAttempt) -> str:
        """``over`` when the attempt has ended, ``left running`` when we were asked to stop."""
        while not self._launcher.wait(live, _POLL_S):
            if self._stopping():
                return f"left running on {self._host}"
        return "over"

    def reattach(self) -> tuple[LiveAttempt, ...]:
        """The attempts that outlived an earlier worker of this host; waking each makes it a running task again."""
        return self._launcher.live()

    def _wanted(self, ticket_id: str, attempt: int) -> bool:
        view = self._ledger.view(ticket_id)
        if view is None or view.attempt != attempt or view.cancel:
            return False
        if view.state not in (State.STARTING, State.RUNNING):
            return False
        effect = Effect(EffectKind.START_ATTEMPT, ticket_id, attempt, 0, 0)
        return self._ledger.outbox(effect.id, ticket_id) is not None

    def _start(self, ticket_id: str, attempt: int) -> LiveAttempt:
        """The attempt host may just be starting, or be restarted."""
        until = self._clock.monotonic() + _START_WITHIN_S
        while True:
            try:
                return self._launcher.start(ticket_id, attempt)
            except TemporaryError:
                if self._clock.monotonic() > until or self._stopping():
                    raise
                self._clock.sleep(_START_WAIT_S)
