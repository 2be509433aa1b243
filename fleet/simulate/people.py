"""People and intake: tickets arrive (and again), are cancelled, tried again, paused, merged, closed, pushed to."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.core.errors import TemporaryError
from fleet.core.events import (
    BudgetRaised,
    CancelRequested,
    Envelope,
    EventData,
    PauseRequested,
    PullRequestClosed,
    ResumeRequested,
    RetryRequested,
    Source,
    StateChanged,
    SteerRequested,
    TicketAccepted,
)
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket
from fleet.core.view import Hold
from fleet.simulate.checks import Checks
from fleet.simulate.forge import Forge
from fleet.simulate.lines import Line, LineLedger, Weather

_TRIES = 400
SWEEP_S = 15.0
_ANSWERS: Mapping[Reason, EventData] = {
    Reason.NEEDS_INPUT: SteerRequested("ada", "the second one"),
    Reason.BUDGET: BudgetRaised("ada", 1.0),
}
_STUCK = frozenset({State.REJECTED, State.ESCALATED, State.PARKED})


class People:
    """``busy``: how many of their wishes have not reached the store yet."""

    def __init__(self, weather: Weather, checks: Checks, forge: Forge) -> None:
        self._weather = weather
        self._checks = checks
        self._forge = forge
        self.busy = 0

    def bring(self, ticket: Ticket, arrives: float) -> None:
        """The ticket is accepted at ``arrives``, perhaps several times; all that people want of it is fixed here."""
        chance = self._weather.chance
        accepted = TicketAccepted(ticket)
        times = 1 + int(chance.fixed(f"deliveries of {ticket.id}") * 1.5)
        for number in range(times):
            late = chance.fixed(f"redelivery {number} of {ticket.id}") * 300.0 if number else 0.0
            self._later(arrives + late, Source.INTAKE, ticket, accepted)
        roll = chance.fixed(f"wish about {ticket.id}")
        when = arrives + 150.0 * chance.fixed(f"wish at {ticket.id}") ** 2
        if roll < 0.10:
            self._later(when, Source.PEOPLE, ticket, CancelRequested("ada", "changed her mind"))
        elif roll < 0.13:
            self._later(when, Source.PEOPLE, ticket, PauseRequested("ada"))
            self._later(when + 90.0, Source.PEOPLE, ticket, ResumeRequested("ada"))
        elif roll < 0.16:
            self._later(when, Source.PEOPLE, ticket, SteerRequested("ada", "look at the tests"))
        elif roll < 0.17:
            self._weather.time.after(when, lambda: self._pushes(ticket))

    def _pushes(self, ticket: Ticket) -> None:
        self._weather.say("ada", f"pushes to {ticket.branch}")
        self._forge.person_pushes(ticket)

    def moved(self, name: str, move: StateChanged) -> None:
        """What somebody does when a ticket came to rest."""
        chance, ticket = self._weather.chance, self._checks.accepted[name]
        if move.state is State.IN_REVIEW:
            roll = chance.fixed(f"review of {name}")
            if roll < 0.7:
                self._weather.time.after(200.0 * chance.fixed(f"reviewed {name}"), lambda: self._reviews(ticket, roll))
        elif move.reason in _ANSWERS:
            if chance.roll(f"answer to {name}") < 0.6:
                after = 3.0 + 60.0 * chance.roll(f"answered {name}")
                self._later(after, Source.PEOPLE, ticket, _ANSWERS[move.reason])
        elif move.state in _STUCK and move.reason is not Reason.PAUSED:
            patient = chance.fixed(f"patience with {name}") < 0.25 and not self._checks.book(name).asked_again
            if patient:
                self._later(5.0 + 60.0 * chance.roll(f"again {name}"), Source.PEOPLE, ticket, RetryRequested("ada"))

    def _reviews(self, ticket: Ticket, roll: float) -> None:
        """Merged or closed at the forge; the sweep will find it, and a webhook may tell it, once or twice."""
        view = self._weather.record.view(ticket.id)
        pull = self._forge.pulls.get(view.pull_request.number) if view and view.pull_request else None
        if pull is None or not pull.open:
            return
        pull.open, pull.merged = False, roll < 0.5
        self._weather.say("ada", f"{'merges' if pull.merged else 'closes'} pull request {pull.number}")
        for number in range(int(self._weather.chance.fixed(f"webhooks of {ticket.id}") * 3)):
            self._later(2.0 + 40.0 * number, Source.INTAKE, ticket, PullRequestClosed(pull.merged, "ada"))

    def hold(self, seconds: float) -> None:
        """`fleet pause --all`, and after ``seconds`` `fleet resume --all`."""
        record, time = self._weather.record, self._weather.time
        self._weather.say("ada", f"pauses the fleet for {seconds:.0f} s")
        record.hold = Hold("ada", time.now())
        time.after(seconds, lambda: setattr(record, "hold", None))

    def sweep(self) -> None:
        """``fleet.intake.sweep``: level-triggered, so that a lost webhook loses nothing."""
        for pull in self._forge.pulls.values():
            if pull.open:
                continue
            view = self._weather.record.view(pull.ticket)
            mine = view.pull_request if view else None
            if view and mine and view.state is State.IN_REVIEW and mine.number == pull.number:
                self._later(0.0, Source.INTAKE, view.ticket, PullRequestClosed(pull.merged))
        self._weather.time.after(SWEEP_S, self.sweep)

    # --- reaching the store ----------------------------------------------------------------------------------------
    def _later(self, seconds: float, source: Source, ticket: Ticket, data: EventData) -> None:
        ledger = LineLedger(Line(self._weather, f"{source.value} for {ticket.id}"))
        self.busy += 1
        self._weather.time.after(seconds, lambda: self._say(ledger, source, ticket, data, _TRIES))

    def _say(self, ledger: LineLedger, source: Source, ticket: Ticket, data: EventData, tries: int) -> None:
        """Says it again until the store has answered; what was never answered was not promised."""
        event = Envelope(ticket.tenant, ticket.id, 0, 0, self._weather.time.now(), data, source)
        try:
            ledger.send(source, [event], durable=True)
        except TemporaryError:
            if tries > 1:
                self._weather.time.after(3.0, lambda: self._say(ledger, source, ticket, data, tries - 1))
                return
        else:
            self._weather.say(source.value, f"{type(data).__name__} of {ticket.id}")
        self.busy -= 1
