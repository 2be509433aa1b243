"""Attempts as ``workers.guard`` and ``workers.voice`` run them, and the launcher through which tasks start them.

An attempt that is cut off works on and keeps its words; back again, it asks whether it is still wanted.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet.core.codec import decode
from fleet.core.commands import Command, CommandKind
from fleet.core.errors import TemporaryError
from fleet.core.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptStopped,
    ChangeReady,
    CommandSeen,
    Envelope,
    EventData,
    Heartbeat,
    SignGiven,
    Source,
    WorkspaceReady,
)
from fleet.core.ports import LiveAttempt
from fleet.core.retry import FailureClass
from fleet.core.view import TicketView
from fleet.simulate.lines import Line, LineLedger, Weather, Zone
from fleet.simulate.places import Places
from fleet.simulate.processes import BEAT_S, Process, Steps, kill_all
from workers.outcome import failed, unwanted

_CLAIM_WITHIN_S = 60.0
_FLUSH_S = 600.0
_GRACE_S = 3.0


class Guard:
    """One attempt, from its claim to its last event."""

    def __init__(self, places: Places, ledger: LineLedger, ticket: str, attempt: int, owner: str) -> None:
        self._places = places
        self._ledger = ledger
        self._ticket = ticket
        self._attempt = attempt
        self._owner = owner
        self._name = ledger.line.name
        self._time = ledger.line.weather.time
        self._spool: list[Envelope] = []
        self._sent = 0
        self._beat_at = 0.0
        self._stop = ""
        self._flush_s = _FLUSH_S
        self._heard = ""
        self._awake = False
        self._tenant = ""

    def terminate(self) -> None:
        """SIGTERM: what was done is given back, and the last words get a short while."""
        self._stop = self._stop or "handed back"
        self._flush_s = _GRACE_S

    def steps(self) -> Steps[None]:
        view = yield from self._claim()
        if view is None:
            return
        self._places.claimed(self._ticket, self._attempt, self._owner)
        self._tenant = view.ticket.tenant
        self._beat_at = self._time.monotonic()
        self._say(AttemptStarted("host", 1, view.agent, "simulated"))
        yield from self._work(view)
        self._say(AttemptStopped(self._stop or "done", left=0))
        begun = self._time.monotonic()
        while self._sent < len(self._spool) and self._time.monotonic() < begun + self._flush_s:
            yield 1.0
            self._flush()

    def _claim(self) -> Steps[TicketView | None]:
        until = self._time.monotonic() + _CLAIM_WITHIN_S
        while True:
            try:
                view = self._ledger.view(self._ticket)
                if view is None or unwanted(view, self._attempt):
                    return None
                yield 0.02  # the look and the claim are two steps
                return view if self._ledger.claim(self._ticket, self._attempt, self._owner) else None
            except TemporaryError:
                if self._time.monotonic() > until:
                    return None
            yield 0.5

    # --- the work --------------------------------------------------------------------------------------------------
    def _work(self, view: TicketView) -> Steps[None]:
        deadline = self._time.monotonic() + view.ticket.limits.attempt_seconds
        fate = self._places.fate(view.ticket, self._attempt)
        base = self._places.base(view.ticket)
        yield from self._wait(1.0, deadline)
        if not self._stop:
            self._say(WorkspaceReady(base, 10, 1.0, 0.5))
        for seconds, word in fate.words:
            yield from self._wait(seconds, deadline)
            if self._stop:
                break
            self._say(word)
        if fate.hangs and not self._stop:
            yield from self._wait(fate.hangs, deadline, sleeping=True)
        if self._stop:
            self._say_why()
        elif fate.failure is not None:
            self._say(fate.failure)
        elif fate.change:
            change = self._places.hand_over(view.ticket, self._attempt, self._owner, base)
            yield 0.1  # the bundle lies at its place before anybody is told
            self._say(change)

    def _say_why(self) -> None:
        if self._stop == "deadline":
            self._say(failed(FailureClass.DEADLINE, "The attempt did not finish in time."))
        elif self._stop == "handed back":
            self._say(failed(FailureClass.HANDED_BACK, "The attempt was stopped by its host and given back."))

    def _wait(self, seconds: float, deadline: float, sleeping: bool = False) -> Steps[None]:
        """``sleeping``: an interrupt ends it."""
        until = self._time.monotonic() + seconds
        while not self._stop and not (sleeping and self._awake):
            now = self._time.monotonic()
            if now >= deadline:
                self._stop = "deadline"
            elif now >= until:
                return
            else:
                yield max(0.01, min(until, self._beat_at, deadline) - now)
                if self._time.monotonic() >= self._beat_at:
                    self._beat()

    # --- voice and ear ---------------------------------------------------------------------------------------------
    def _say(self, data: EventData) -> None:
        seq = len(self._spool) + 1
        now = self._time.now()
        self._spool.append(Envelope(self._tenant, self._ticket, self._attempt, seq, now, data, Source.ATTEMPTS))
        if isinstance(data, ChangeReady | AttemptFailed):
            self._ledger.line.weather.say(self._name, f"says {type(data).__name__}")
        self._flush()

    def _flush(self, pulse: bool = False) -> None:
        events = self._spool[self._sent :]
        if pulse:
            beat = Heartbeat(len(self._spool))
            events.append(
                Envelope(self._tenant, self._ticket, self._attempt, 0, self._time.now(), beat, Source.ATTEMPTS)
            )
        if not events:
            return
        try:
            self._ledger.send(Source.ATTEMPTS, events)
        except TemporaryError:
            return
        self._sent = len(self._spool)

    def _beat(self) -> None:
        """A heartbeat with what is unsent, then a look for commands and whether this attempt is still wanted."""
        self._beat_at = self._time.monotonic() + BEAT_S
        self._flush(pulse=True)
        try:
            commands = self._ledger.commands(self._ticket, self._attempt, self._heard, 0)
            reason = unwanted(self._ledger.view(self._ticket), self._attempt)
        except TemporaryError:
            return
        for cursor, raw in commands:
            self._heard = cursor
            self._take(decode(raw, Command))
        if reason is not None and not self._stop:
            self._ledger.line.weather.say(self._name, f"stops itself: {reason}")
            self._stop = reason

    def _take(self, command: Command) -> None:
        self._say(CommandSeen(command.id, command.kind.value))
        match command.kind:
            case CommandKind.CANCEL:
                self._stop = self._stop or "cancelled"
            case CommandKind.CHECKPOINT:
                self._stop = self._stop or "handed back"
            case CommandKind.RESEND:
                self._sent = min(self._sent, max(0, command.seq - 1))
            case CommandKind.INTERRUPT:
                self._awake = True
            case CommandKind.PROBE:
                self._say(SignGiven("waiting", 1, 0.0, 0.0))
            case CommandKind.NUDGE | CommandKind.STEER:
                pass


class Host:
    """Implements ``fleet.core.ports.Launcher``: one machine with its attempts. Two hosts may start the same one."""

    def __init__(self, weather: Weather, places: Places, name: str, changed: Callable[[int], None]) -> None:
        self._weather = weather
        self._places = places
        self._name = name
        self._changed = changed
        self.zone = Zone(name)
        self.draining = False
        self._live: dict[tuple[str, int], tuple[Process, Guard]] = {}
        self._started = 0

    def start(self, ticket: str, attempt: int) -> LiveAttempt:
        key = (ticket, attempt)
        if key not in self._live:
            self._started += 1
            owner = f"{self._name}:{self._started}"
            line = Line(self._weather, f"attempt {attempt} of {ticket} on {self._name}", zone=self.zone)
            guard = Guard(self._places, LineLedger(line), ticket, attempt, owner)
            self._changed(1)
            process = Process(self._weather, line, guard.steps(), lambda: self._gone(key))
            self._live[key] = process, guard
        return LiveAttempt(ticket, attempt, 1)

    def _gone(self, key: tuple[str, int]) -> None:
        self._live.pop(key, None)
        self._changed(-1)

    def find(self, ticket: str, attempt: int) -> LiveAttempt | None:
        return LiveAttempt(ticket, attempt, 1) if (ticket, attempt) in self._live else None

    def live(self) -> tuple[LiveAttempt, ...]:
        return tuple(LiveAttempt(ticket, attempt, 1) for ticket, attempt in self._live)

    def wait(self, attempt: LiveAttempt, timeout: float) -> bool:
        """Nobody needs to wait: Flower is not simulated."""
        return True

    def kill(self, attempt: LiveAttempt) -> bool:
        found = self._live.get((attempt.ticket, attempt.attempt))
        if found is not None:
            found[0].kill()
        return True

    def fall(self) -> None:
        """The machine dies with everything on it."""
        self._weather.say(self._name, f"dies with {len(self._live)} attempts")
        for process, _ in list(self._live.values()):
            process.kill()

    def drain(self, grace: float, away: float) -> None:
        """SIGTERM to the machine: nothing new starts, each attempt is handed back or killed after ``grace`` seconds."""
        time, there = self._weather.time, list(self._live.values())
        self._weather.say(self._name, f"drains with {len(there)} attempts, and is back after {away:.0f} s")
        self.draining = True
        for _, guard in there:
            guard.terminate()
        time.after(grace, lambda: kill_all(process for process, _ in there))
        time.after(max(away, grace), self._open)

    def _open(self) -> None:
        self.draining = False
