"""Playing the deck: lanes side by side, each a fleet of its own, take round after round until the deck is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fleet.chaos.deck import Round, name_of, with_model
from fleet.chaos.lane import Lane, lane
from fleet.chaos.strike import Strike, prepared
from fleet.chaos.verdict import Played, put_aside
from fleet.core.errors import FleetError
from fleet.core.ports import Clock
from fleet.core.view import TicketView

# A ticket that does not rest by then counts as lost.
LONGEST_S = 240.0
_POLL_S = 0.05
# What was frozen or cut off gets this long to do what is too late, before anybody looks.
_SETTLE_S = 1.5
_HOST_EVERY_S = 1.0


@dataclass(slots=True)
class Play:
    """``told``: called after each round, by one thread at a time. ``seconds``: then no new round begins."""

    env: Mapping[str, str]
    clock: Clock
    told: Callable[[Played], None] = lambda _: None
    seconds: float = float("inf")
    keep: bool = False
    say: Callable[[str], None] = lambda _: None
    played: list[Played] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, rounds: Sequence[Round], lanes: int) -> list[Played]:
        """The rounds that were played, in the order in which they ended. Ctrl-C ends the lanes first, and a round that
        it cut off is not counted.
        """
        left = list(rounds)
        until = self.clock.monotonic() + self.seconds
        with ThreadPoolExecutor(max(1, min(lanes, len(left)))) as pool:
            # A restart in the first lane, a take-over by another supervisor in the others.
            work = [pool.submit(self._lane, left, until, min(at, 2)) for at in range(1, min(lanes, len(left)) + 1)]
            try:
                for one in work:
                    one.result()
            except BaseException:
                self._stop.set()
                raise
        return self.played

    def _lane(self, left: list[Round], until: float, supervisors: int) -> None:
        """A lane that broke is replaced: what it broke by stands in the verdict, and the others go on."""
        while (one := self._next(left, until)) is not None:
            try:
                with lane(self.env, supervisors, self.keep) as place:
                    if self.keep:
                        self.say(f"this home is kept: FLEET_HOME={place.home.layout.home}")
                    while one is not None:
                        played = self._round(place, one)
                        if not self._stop.is_set():
                            self._tell(played)
                        one = self._next(left, until)
            except (FleetError, OSError) as error:
                if one is None:
                    raise
                self._tell(Played(one, 0, (), error=f"the lane broke: {error}"))

    def _next(self, left: list[Round], until: float) -> Round | None:
        with self._lock:
            late = self.clock.monotonic() >= until or self._stop.is_set()
            return left.pop(0) if left and not late else None

    def _tell(self, played: Played) -> None:
        with self._lock:
            self.played.append(played)
            self.told(played)

    def _round(self, place: Lane, one: Round) -> Played:
        before = len(place.ledger().quarantine())
        with prepared(place, one, self.clock) as strike:
            repo, tickets = place.accept(one.tickets, with_model(one.what))
            self._until_rest(place, strike, tickets)
            struck = strike.struck
        place.up()
        return Played(one, struck, place.ends(repo, tickets), put_aside(before, len(place.ledger().quarantine())))

    def _until_rest(self, place: Lane, strike: Strike, tickets: Sequence[str]) -> None:
        """Nobody helps, but a host that was killed is started again, as the next command does."""
        until = self.clock.monotonic() + LONGEST_S
        host_at = self.clock.monotonic() + _HOST_EVERY_S
        while self.clock.monotonic() < until and not self._stop.is_set():
            if self.clock.monotonic() >= host_at:
                host_at = self.clock.monotonic() + _HOST_EVERY_S
                if not place.home.host_runs():
                    place.up()
            views = _views(strike, tickets)
            strike.turn(views)
            if strike.over and len(views) == len(tickets) and not any(view.state.active for view in views):
                self.clock.sleep(_SETTLE_S)
                return
            self.clock.sleep(_POLL_S)


def _views(strike: Strike, tickets: Sequence[str]) -> list[TicketView]:
    """Those that can be seen now; none while the store does not answer."""
    try:
        found = [strike.ledger.view(ticket) for ticket in tickets]
    except FleetError:
        return []
    return [view for view in found if view is not None]


def line(played: Played) -> str:
    """One round in one line."""
    ends = played.ends
    good = sum(not end.lost and not end.doubled for end in ends)
    longest = max((end.seconds for end in ends), default=0.0)
    said = f"{name_of(played.round.what)}, round {played.round.number}: struck {played.struck}"
    bad = next((f"{end.state} ({end.detail[:160]})" for end in ends if end.lost), played.error)
    return f"{said}, {good} of {played.round.tickets} in review, {longest:.1f} s. {bad}".rstrip()
