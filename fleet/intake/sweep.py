"""What became of the fleet's open pull requests: looked up at the forge, level-triggered, so that nothing is missed.

A webhook may be lost; the state of the pull request cannot. ``closed_since`` is pure, ``Sweep`` does the asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fleet.adapters.telemetry import about_ticket, log
from fleet.core.errors import FleetError
from fleet.core.events import Envelope, PullRequestClosed, Source
from fleet.core.forge import ForgeClient, ForgePull, pull_request_marker
from fleet.core.ports import Clock, Ledger
from fleet.core.states import State
from fleet.core.view import TicketView

EVERY = 15.0


def closed_since(views: Iterable[TicketView], pulls: Mapping[str, ForgePull], now: float) -> tuple[Envelope, ...]:
    """An event for each ticket in review whose pull request is no longer open. ``pulls``: ticket id → as it is now."""
    events = []
    for view in views:
        pull = pulls.get(view.id)
        if view.state is not State.IN_REVIEW or view.pull_request is None or pull is None:
            continue
        if pull.number == view.pull_request.number and not pull.open:
            data = PullRequestClosed(pull.merged)
            events.append(Envelope(view.ticket.tenant, view.id, 0, 0, now, data, Source.INTAKE))
    return tuple(events)


class Sweep:
    """Runs until ``stop``. A forge or ledger that is away costs this round only."""

    def __init__(self, ledger: Ledger, forge: ForgeClient, clock: Clock, stop: Callable[[float], bool]) -> None:
        self._ledger = ledger
        self._forge = forge
        self._clock = clock
        self._stop = stop

    def run(self) -> None:
        """``stop(seconds)`` waits that long and answers whether to end."""
        while not self._stop(EVERY):
            try:
                self.once()
            except FleetError:
                continue

    def once(self) -> int:
        """One round; answers how many pull requests were found closed."""
        views = [view for view in self._ledger.views() if view.state is State.IN_REVIEW]
        pulls: dict[str, ForgePull] = {}
        for view in views:
            ticket = view.ticket
            found = self._forge.find_pull_request(ticket.repo, ticket.branch, pull_request_marker(ticket.id))
            if found is not None:
                pulls[view.id] = found
        events = closed_since(views, pulls, self._clock.now())
        if events:
            self._ledger.send(Source.INTAKE, events, durable=True)
        known = {view.id: view.ticket for view in views}
        for event in events:
            with about_ticket(known[event.ticket], 0, self._ledger.incarnation):
                log().info("the pull request was closed")
        return len(events)
