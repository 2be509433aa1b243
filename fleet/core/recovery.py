"""What the forge still knew about a ticket when its ledger was lost. Told once, with ``TicketAccepted``."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.core.states import Reason, State


@dataclass(frozen=True, slots=True)
class Recovered:
    """How a ticket begins in a new incarnation.

    ``state``: where it goes at once: queued (it works again, as attempt ``attempts`` + 1), parked or in review; the
    last two with ``reason`` and ``detail``. Counters are rounded up: they are never lower than what was used. ``usd``
    in US dollars. ``pull_request`` 0: none; the fields after it are the pull request's.
    ``heard``: the newest comment whose order was taken: what was done once is not done again.
    ``passed_to``, ``tries`` and what was ``raised`` as in the view.
    ``shown``: its issue says all this already. Hundreds of edits at once are what a forge limits, and real news waits.
    """

    state: State
    reason: Reason
    detail: str = ""
    attempts: int = 0
    hand_backs: int = 0
    usd: float = 0.0
    model_calls: int = 0
    tokens: int = 0
    failures: tuple[tuple[str, int], ...] = ()
    pull_request: int = 0
    url: str = ""
    head: str = ""
    base_sha: str = ""
    heard: int = 0
    passed_to: str = ""
    tries: int = 0
    incarnation: str = ""
    at: float = 0.0
    raised_usd: float = 0.0
    raised_last: float = 0.0
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A ticket of ``tenant`` that was taken up again at Unix time ``at``, having spent ``usd``."""

    at: float
    usd: float = 0.0
    tenant: str = "default"
