"""The ``command:<words>`` agent: one command in the sandbox, such as a codemod or a linter's fixes. No model.

The words run without a shell (``command:sh -c "…"`` asks for one). The repository's environment and the fleet's
locked tools come first on PATH. Status 0 means done; anything else fails the ticket, because the same command on the
same base does the same again.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleet.core.commands import Command
from fleet.core.errors import InternalError, UsageError
from fleet.core.events import AttemptFailed, EventData, ToolFinished, ToolStarted
from fleet.core.retry import FailureClass
from fleet.core.sandbox import Ending, SandboxResult, SandboxSpec
from workers.agents.base import Job
from workers.outcome import clean, failed

_TAIL = 2000
_OUTPUT = 500_000
_SUMMARY = 200
_PROGRAMS = 40
_WHY = {
    Ending.TIMED_OUT: "did not finish in time",
    Ending.MEMORY: "used more memory than allowed",
    Ending.DISK: "wrote more to the disk than allowed",
    Ending.PROCESSES: "started more processes than allowed",
    Ending.OUTPUT: "printed more than allowed",
    Ending.SIGNALED: "was ended by a signal",
}


def parse(words: str) -> tuple[str, ...]:
    """The words of a command line. Raises UsageError when there are none or a quote is left open."""
    try:
        argv = tuple(shlex.split(words))
    except ValueError as error:
        raise UsageError(f"The command {words!r} cannot be read: {error}.", "Check its quotes.") from error
    if not argv or not argv[0]:
        raise UsageError("The agent command: needs a command.", 'For example "command:ruff check --fix .".')
    if any("\0" in word for word in argv):
        raise UsageError("The command holds a NUL byte.", "Remove it.")
    return argv


class CommandAgent:
    """Implements ``workers.agents.base.Agent``."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self._argv = argv
        self._job: Job | None = None
        self._stopped = False
        self._outcome: AttemptFailed | None = None

    def start(self, job: Job) -> None:
        self._job = job

    def events(self) -> Iterator[EventData]:
        job = self._job
        if job is None:
            raise InternalError("The agent was not started.")
        yield ToolStarted("command", self._argv[0][:_SUMMARY], clean(shlex.join(self._argv))[:_SUMMARY])
        result = job.sandbox.run(self._spec(job), should_stop=lambda: self._should_stop(job))
        output = result.stdout + result.stderr
        digest = hashlib.sha256(output).hexdigest()[:16]
        yield ToolFinished("command", digest, result.exit_code, int(result.seconds * 1000), tail(result))
        self._outcome = judge(self._argv, result, job.prepared.path)

    def tell(self, command: Command) -> None:
        """A command cannot listen."""

    def stop(self) -> None:
        self._stopped = True

    def outcome(self) -> AttemptFailed | None:
        return self._outcome

    def _spec(self, job: Job) -> SandboxSpec:
        # A command that only asks whether these words are an agent need not load what makes environments.
        from fleet.adapters.environments.service import resolve_env  # noqa: PLC0415

        return SandboxSpec(
            argv=self._argv,
            workspace=job.workspace,
            env=resolve_env(job.prepared, job.sandbox.inside(job.workspace)),
            path=job.prepared.path,
            read_only=(*job.prepared.read_only, *job.read_only),
            limits=job.limits,
        )

    def _should_stop(self, job: Job) -> bool:
        job.poll()
        return self._stopped


def judge(argv: tuple[str, ...], result: SandboxResult, path: Iterable[Path] = ()) -> AttemptFailed | None:
    """What a finished command means for the attempt; None when it succeeded."""
    name = clean(shlex.join(argv))[:_SUMMARY]
    if result.ending is Ending.EXITED and result.exit_code == 0:
        return None
    said = tail(result)
    # Whole, so that what is useful in it can be found; failed() bounds and cleans it.
    output = (result.stdout[-_OUTPUT:] + b"\n" + result.stderr[-_OUTPUT:]).decode("utf-8", "replace")
    match result.ending:
        case Ending.EXITED:
            detail = f"`{name}` ended with status {result.exit_code}.{_hint(argv)}"
            return failed(FailureClass.COMMAND_FAILED, f"{detail} {_last_line(said)}".strip(), output)
        case Ending.NOT_FOUND:
            names = ", ".join(_programs(path)) or "only the system's programs"
            detail = f"The command {clean(argv[0])[:_SUMMARY]} was not found; on PATH are {names}."
            return failed(FailureClass.COMMAND_FAILED, detail, output)
        case Ending.CANCELLED:
            return failed(FailureClass.CANCELLED, f"`{name}` was stopped.", output)
        case Ending.TIMED_OUT:
            return failed(FailureClass.DEADLINE, f"`{name}` {_WHY[result.ending]}.", output)
        case _:
            return failed(FailureClass.COMMAND_FAILED, f"`{name}` {_WHY[result.ending]}.", output)


def tail(result: SandboxResult) -> str:
    """The end of what the command printed; its errors last, because they say most."""
    return clean((result.stdout[-_TAIL:] + result.stderr[-_TAIL:]).decode("utf-8", "replace"))[-_TAIL:]


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"Its last words: {lines[-1][:300]}" if lines else "It printed nothing."


def _hint(argv: tuple[str, ...]) -> str:
    fixing = "ruff" in os.path.basename(argv[0]) and "--fix" in argv and "--exit-zero" not in argv
    return (
        " Findings that it cannot fix make it fail: add --exit-zero to take the fixes all the same." if fixing else ""
    )


def _programs(path: Iterable[Path]) -> list[str]:
    found: dict[str, None] = {}
    for folder in path:
        if folder.is_dir():
            found.update((file.name, None) for file in sorted(folder.iterdir()) if os.access(file, os.X_OK))
    plain = [name for name in found if not name.startswith(("_", "activate", "Activate"))]
    return plain[:_PROGRAMS] + ([f"and {len(plain) - _PROGRAMS} more"] if len(plain) > _PROGRAMS else [])
