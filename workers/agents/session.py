"""A built-in agent: a model, its tools, and what people and the supervisor say in between. One thread decides.

Only the model's call waits in a thread of its own, so that commands are heard while it thinks; an interrupted call is
abandoned with its connection, and what it would have said is lost.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from fleet.core.budget import Cost
from fleet.core.commands import Command, CommandKind
from fleet.core.errors import InternalError
from fleet.core.events import AttemptFailed, EventData, ModelAsked, Note, TurnFinished
from fleet.core.retry import FailureClass
from workers.agents import prompts
from workers.agents.base import Job
from workers.agents.conversation import ASK, FINISH, Entry, Next, Reply, Result, Results, Said, after, compact, size
from workers.agents.model import Access, Model, ModelError, Trouble, difference
from workers.agents.tools import Bench
from workers.outcome import clean, failed

# About 120,000 tokens: below every vendor's window and below where long prompts cost more.
MOST_CHARS = 400_000
_TICK_S = 0.2
_TRIES = 3
_PAUSE_S = 2.0
_LONGEST_WAIT_S = 60.0
UNCHANGED = (
    "You called finish, but nothing in the working copy has changed. If the issue needs a change, make it; "
    "if it needs none, call finish again and say why."
)
ALONE = "Call {tool} alone and with all it needs, after the other calls were answered."
INTERRUPTED = "Your last call was interrupted by the supervisor."


@dataclass(slots=True)
class _State:
    """What changes while an agent works."""

    entries: list[Entry] = field(default_factory=list)
    heard: deque[str] = field(default_factory=deque)
    interrupted: bool = False
    stopped: bool = False
    told_unchanged: bool = False
    idle: int = 0
    turns: int = 0
    spent: Cost = field(default_factory=Cost)
    outcome: AttemptFailed | None = None


class ModelAgent:
    """Implements ``workers.agents.base.Agent`` for any ``Model``. Above ``most_chars`` old results are shortened."""

    def __init__(self, model: Model, most_chars: int = MOST_CHARS) -> None:
        self._model = model
        self._most_chars = most_chars
        self._job: Job | None = None
        self._state = _State()

    # --- the port ----------------------------------------------------------------------------------------------------
    def start(self, job: Job) -> None:
        self._job = job
        self._state.entries.append(Said(prompts.task(job.ticket, job.guide, job.digest, job.resumed)))

    def events(self) -> Iterator[EventData]:
        job = self._job
        if job is None:
            raise InternalError("The agent was not started.")
        work = _Work(self._model, job, self._state, self._most_chars)
        while self._state.outcome is None and not self._state.stopped:
            done = yield from work.turn()
            if done:
                return
        if self._state.stopped:
            self._state.outcome = failed(FailureClass.CANCELLED, "The agent was stopped.")

    def tell(self, command: Command) -> None:
        mark = prompts.STEER if command.kind is CommandKind.STEER else prompts.NUDGE
        if command.text:
            self._state.heard.append(mark + clean(command.text))
        if command.kind is CommandKind.INTERRUPT:
            self._state.interrupted = True

    def stop(self) -> None:
        self._state.stopped = True

    def outcome(self) -> AttemptFailed | None:
        return self._state.outcome


class _Work:
    """The turns of one job."""

    def __init__(self, model: Model, job: Job, state: _State, most_chars: int) -> None:
        self._model = model
        self._most_chars = most_chars
        self._job = job
        self._state = state
        self._access = Access(job.gateway, job.key)
        self._bench = Bench(job, self._should_stop)

    def turn(self) -> Generator[EventData, None, bool]:
        """One call of the model and what follows from it. Returns True when the agent says that it is done."""
        state = self._state
        self._hear()
        state.entries[:] = compact(state.entries, self._most_chars)
        reply = yield from self._ask()
        if reply is None:
            return False
        state.entries.append(reply)
        state.idle = 0 if reply.calls else state.idle + 1
        step = after(reply, state.idle)
        match step.next:
            case Next.TOOLS:
                yield from self._tools(reply)
            case Next.SAY:
                state.entries.append(Said(step.text))
            case Next.DONE:
                return (yield from self._finish(reply, step.text))
            case Next.ASKS:
                state.outcome = failed(FailureClass.NEEDS_INPUT, f"The agent asks: {step.text}", step.text)
            case Next.REFUSED:
                state.outcome = failed(FailureClass.AGENT_ERROR, f"The model refused: {step.text}", step.text)
            case Next.STUCK:
                state.outcome = failed(FailureClass.PROTOCOL, step.text, reply.text)
        return False

    # --- the model -----------------------------------------------------------------------------------------------
    def _ask(self) -> Generator[EventData, None, Reply | None]:
        """Yields what happens; returns the reply, or None when there is none and the state says why."""
        state, tries = self._state, 0
        while not state.stopped:
            yield ModelAsked(self._model.name)
            try:
                reply = self._wait_for_reply()
            except ModelError as error:
                tries += 1
                yield from self._account(failed_call=True)
                if not (yield from self._recovered(error, tries)):
                    return None
                continue
            if reply is None:
                yield from self._account(failed_call=True)
                state.interrupted = False
                state.heard.appendleft(prompts.NUDGE + INTERRUPTED)
                self._hear()
                continue
            state.turns += 1
            yield from self._account()
            return reply
        return None

    def _wait_for_reply(self) -> Reply | None:
        """None when it was interrupted or stopped. Raises ModelError."""
        state, answer = self._state, Future[Reply]()
        client = self._access.client()
        entries, key = tuple(state.entries), self._job.key

        def ask() -> None:
            try:
                answer.set_result(self._model.ask(entries, client, key))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=ask, name="model", daemon=True).start()
        try:
            while not answer.done():
                with suppress(TimeoutError):
                    answer.exception(timeout=_TICK_S)
                self._job.poll()
                if (state.stopped or state.interrupted) and not answer.done():
                    return None
            return answer.result()
        finally:
            with suppress(Exception):
                client.close()

    def _recovered(self, error: ModelError, tries: int) -> Generator[EventData, None, bool]:
        """Waits or makes room; returns whether to ask again. Otherwise the outcome is set."""
        state = self._state
        if error.trouble is Trouble.TOO_LONG and tries == 1 and size(state.entries) > MOST_CHARS // 8:
            state.entries[:] = compact(state.entries, 0)
            yield Note("The conversation was shortened because the provider found it too long.")
            return True
        pause = error.retry_after if error.retry_after is not None else _PAUSE_S * tries
        if error.trouble in (Trouble.AGAIN, Trouble.WAIT) and tries < _TRIES and pause <= _LONGEST_WAIT_S:
            yield Note(f"Asks again in {pause:.0f} s: {error.message}"[:300])
            self._sleep(pause)
            return not state.stopped
        state.outcome = failed(error.failure, error.message, retry_after=error.retry_after)
        return False

    def _account(self, failed_call: bool = False) -> Iterator[EventData]:
        """Tells what the call cost, by the gateway's count; a failed one may have cost, too."""
        now = self._access.spent()
        if now is None:
            return
        cost = difference(now, self._state.spent)
        self._state.spent = now
        if not failed_call or cost.model_calls:
            yield TurnFinished(self._state.turns, cost, self._model.name)

    # --- tools -----------------------------------------------------------------------------------------------------
    def _tools(self, reply: Reply) -> Iterator[EventData]:
        """Carries the calls out in their order; each gets an answer, also when the work was interrupted."""
        results: list[Result] = []
        for call in reply.calls:
            if self._should_stop():
                results.append(Result(call.id, INTERRUPTED, True))
                continue
            if call.tool in (FINISH, ASK) and not call.error:
                results.append(Result(call.id, ALONE.format(tool=call.tool), True))
                continue
            yield self._bench.started(call)
            result, finished = self._bench.run(call)
            results.append(result)
            yield finished
        self._state.interrupted = False
        self._state.entries.append(Results(tuple(results)))

    def _finish(self, reply: Reply, text: str) -> Generator[EventData, None, bool]:
        """Returns True when the work is done; a finish without a change is questioned once."""
        state = self._state
        if not state.told_unchanged and not self._bench.changed():
            state.told_unchanged = True
            state.entries.append(Results((Result(reply.calls[0].id, UNCHANGED, True),)))
            return False
        yield Note(f"finished: {clean(text)}"[:2000])
        return True

    # --- between the turns -----------------------------------------------------------------------------------------
    def _hear(self) -> None:
        self._job.poll()
        while self._state.heard:
            self._state.entries.append(Said(self._state.heard.popleft()))

    def _should_stop(self) -> bool:
        self._job.poll()
        return self._state.stopped or self._state.interrupted

    def _sleep(self, seconds: float) -> None:
        clock = self._job.clock
        until = clock.monotonic() + seconds
        while clock.monotonic() < until and not self._should_stop():
            clock.sleep(min(_TICK_S, max(0.0, until - clock.monotonic())))
