"""The guard: one small process per attempt that claims it, watches it, speaks for it, and leaves nothing of it behind.

It forks the loop as its child before it starts a thread, adopts every orphan below itself, and is told by the kernel
when the loop ends. It works on while the ledger is away, and stops by itself when the ledger no longer wants it.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.adapters import fork
from fleet.adapters.crash import crash_here
from fleet.adapters.slots import Slot, Slots
from fleet.adapters.telemetry import about_ticket, log
from fleet.core.codec import CodecError, decode_event, encode
from fleet.core.commands import Command, CommandKind
from fleet.core.errors import FleetError
from fleet.core.events import AttemptFailed, AttemptStarted, AttemptStopped, ChangeReady, Note, Source
from fleet.core.ports import AttemptChannel, Clock
from fleet.core.retry import FailureClass
from fleet.core.story import BEGUN, artifact
from fleet.core.view import TicketView
from workers.link import Link, pair
from workers.liveness import below, sign
from workers.loop import Assignment, Loop, Tools
from workers.outcome import died, failed, failure_of, unwanted
from workers.spool import Spool
from workers.voice import Ear, Voice

CLAIM_WITHIN_S = 60.0
GRACE_S = 3.0
FLUSH_S = 600.0
_TICK_S = 1.0
_CLAIM_WAIT_S = 0.5

DEADLINE = "deadline"
HANDED_BACK = "handed back"


@dataclass(frozen=True, slots=True)
class Post:
    """Where an attempt runs. ``owner`` is new for every guard: of two guards of one attempt only one gets the claim.

    ``spool`` is a file of this attempt alone.
    """

    host: str
    incarnation: str
    owner: str
    spool: Path


class Guard:
    """One attempt, from its claim to its last event. ``run`` returns when nothing of it is left."""

    def __init__(
        self,
        ticket: str,
        attempt: int,
        *,
        channel: AttemptChannel,
        post: Post,
        slots: Slots,
        tools: Tools,
        clock: Clock,
        work: Callable[[Assignment, Tools, Link], None] | None = None,
        kill: Callable[[int, Clock], bool] = fork.kill_below,
    ) -> None:
        self._ticket = ticket
        self._attempt = attempt
        self._channel = channel
        self._post = post
        self._slots = slots
        self._tools = tools
        self._clock = clock
        self._work = work or _work
        self._kill = kill
        self._lock = threading.Lock()
        self._commands: deque[Command] = deque()
        self._stop = ""
        self._why = ""
        self._loop = 0
        self._word = clock.monotonic()
        self._terminated = False
        self._wake_out, self._wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> None:
        """Claims and carries out the attempt. Returns at once when somebody else has it or nobody wants it."""
        fork.adopt_orphans()
        fork.hide_memory()
        os.umask(0o022)
        signal.signal(signal.SIGTERM, self._terminate)
        crash_here("attempt.before_claim")
        view = self._claim()
        if view is None:
            return
        # Whoever of the ticket's route is at work now.
        view = replace(view, ticket=replace(view.ticket, agent=view.agent))
        with about_ticket(view.ticket, self._attempt, lambda: self._post.incarnation):
            self._carry_out(view)

    def _carry_out(self, view: TicketView) -> None:
        crash_here("attempt.after_claim")
        log().info("claimed", agent=view.ticket.agent.partition(":")[0], host=self._post.host)
        voice = Voice(self._channel, view.ticket, self._attempt, Spool(self._post.spool), self._clock)
        voice.say(AttemptStarted(self._post.host, os.getpid(), view.ticket.agent, self._post.incarnation))
        try:
            self._count(view)
            with self._slots.acquire(f"{self._ticket}.{self._attempt}") as slot:
                reason = self._watch(view, slot, voice)
        except Exception as error:
            # A boundary: no slot, a full disk, a bug of ours. The supervisor hears of it in each case.
            voice.say(failure_of(error))
            reason = "failed"
        log().info("ended", reason=reason)
        crash_here("attempt.before_stopped")
        # Whatever ended it: what is said of its end was looked up.
        voice.say(AttemptStopped(reason, below(os.getpid())))
        voice.start()
        self._finish(voice)

    def _count(self, view: TicketView) -> None:
        """Before the work, and beside the ledger: one that is lost now must not give this attempt once more (I8)."""
        self._tools.artifacts.put(artifact(view.id, self._attempt, BEGUN, "json"), encode(view.ticket.agent))

    def _finish(self, voice: Voice) -> None:
        """Until everything was said; the ledger may be away for a while, but SIGTERM shortens the wait."""
        until = self._clock.monotonic() + FLUSH_S
        while not voice.flush(_TICK_S):
            now = self._clock.monotonic()
            if self._terminated:
                until = min(until, now + GRACE_S)
                self._terminated = False
            if now >= until:
                return
        self._post.spool.unlink(missing_ok=True)

    # --- claiming ---------------------------------------------------------------------------------------------
    def _claim(self) -> TicketView | None:
        """The view, once the claim is ours; None when it is not. Tries again while the ledger is away."""
        until = self._clock.monotonic() + CLAIM_WITHIN_S
        while not self._stop:
            with suppress(FleetError):
                view = self._channel.view(self._ticket)
                if view is None or unwanted(view, self._attempt):
                    return None
                return view if self._channel.claim(self._ticket, self._attempt, self._post.owner) else None
            if self._clock.monotonic() > until:
                return None
            self._clock.sleep(_CLAIM_WAIT_S)
        return None

    # --- watching ---------------------------------------------------------------------------------------------
    def _watch(self, view: TicketView, slot: Slot, voice: Voice) -> str:
        """Forks the loop, follows it to its end, makes sure of that end, and says how it ended."""
        deadline = self._clock.monotonic() + view.ticket.limits.attempt_seconds
        assignment = Assignment(view.ticket, self._attempt, view.digest, slot, deadline, view.repair)
        ours, theirs = pair()
        me = os.getpid()

        def child() -> None:
            fork.die_with(me)
            fork.show_memory()
            ours.close()
            fork.forget((theirs.fileno(),))
            self._work(assignment, self._tools, theirs)

        pid = self._loop = fork.fork(child)
        theirs.close()
        try:
            voice.start()
            Ear(self._channel, self._ticket, self._attempt, voice, self._clock, self._heard, self._end).start()
            decided = self._follow(ours, voice, deadline)
            status = self._bury(pid)
            ours.close()
        finally:
            # First the end, then the word about it: who hears that it is over may start a successor at once (I3).
            # Whatever broke here, nobody works on in a slot that is given back.
            dead = self._kill(me, self._clock)
        if not dead:
            voice.say(Note("Some processes of this attempt could not be ended."))
        reason = self._stop
        if not reason and not decided:
            voice.say(died(status))
        if reason == DEADLINE and not decided:
            seconds = view.ticket.limits.attempt_seconds
            voice.say(failed(FailureClass.DEADLINE, f"The attempt did not finish within {seconds:g} s."))
        if reason == HANDED_BACK and not decided:
            by = f"because {self._why}" if self._why else "by its host"
            voice.say(failed(FailureClass.HANDED_BACK, f"The attempt was stopped {by} and given back."))
        return reason or ("done" if decided else "died")

    def _follow(self, link: Link, voice: Voice, deadline: float) -> bool:
        """Until the loop has ended or must end; True when it said the deciding word before that."""
        decided = False
        with ExitStack() as held:
            events = held.enter_context(selectors.DefaultSelector())
            events.register(link, selectors.EVENT_READ)
            events.register(self._wake_out, selectors.EVENT_READ)
            until: float | None = None
            while not link.closed:
                now = self._clock.monotonic()
                if now >= deadline:
                    self._end(DEADLINE)
                if self._stop and until is None:
                    until = now + GRACE_S
                    link.send(encode(Command("stop", CommandKind.CANCEL, self._stop)))
                if until is not None and now >= until:
                    break
                events.select(min(_TICK_S, max(0.0, (until or deadline) - now)))
                self._drain()
                self._forward(link, voice)
                for frame in link.receive():
                    # What comes after the order to stop is no longer wanted, or was overtaken by it.
                    if not self._stop:
                        decided = self._relay(frame, voice) or decided
        return decided

    def _relay(self, frame: bytes, voice: Voice) -> bool:
        self._word = self._clock.monotonic()
        try:
            data = decode_event(frame, Source.ATTEMPTS).data
        except CodecError as error:
            voice.say(Note(f"The attempt said something unreadable: {error}"[:300]))
            return False
        voice.say(data)
        if isinstance(data, ChangeReady):
            crash_here("attempt.change_told")
        return isinstance(data, ChangeReady | AttemptFailed)

    def _bury(self, pid: int) -> int:
        """The loop's exit status; negative for a signal. It is killed when it has not ended by itself."""
        until = self._clock.monotonic() + GRACE_S
        while True:
            try:
                gone, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                return 0
            if gone:
                return os.waitstatus_to_exitcode(status)
            if self._stop or self._clock.monotonic() > until:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._clock.sleep(0.005)

    # --- from the ear and from signals ------------------------------------------------------------------------
    def _heard(self, command: Command) -> None:
        match command.kind:
            case CommandKind.CANCEL:
                self._end("cancelled")
            case CommandKind.CHECKPOINT:
                self._why = command.text
                self._end(HANDED_BACK)
            case _:
                self._commands.append(command)
                self._wake()

    def _terminate(self, *_: object) -> None:
        self._terminated = True
        self._end(HANDED_BACK)

    def _end(self, reason: str) -> None:
        """The first reason stands."""
        self._stop = self._stop or reason
        self._wake()

    def _forward(self, link: Link, voice: Voice) -> None:
        """To the loop; a probe is about the loop, and answered here: who answers is the one that would end it."""
        while self._commands:
            command = self._commands.popleft()
            if command.kind is CommandKind.PROBE:
                voice.say(sign(os.getpid(), self._loop, self._clock.monotonic() - self._word))
            else:
                link.send(encode(command))

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_in, b"!")

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._wake_out, 4096):
                pass


def _work(assignment: Assignment, tools: Tools, link: Link) -> None:
    Loop(assignment, tools, link).run()
