"""Programs of the host, run with an explicit environment and never through a shell.

For the fleet's own trusted programs only (git, pip, bwrap --version). What a model or a repository chose to run
goes through ``fleet.core.sandbox.Sandbox`` (I9).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.core.errors import InternalError, TemporaryError

_TAIL = 2000


@dataclass(frozen=True, slots=True)
class Completed:
    """What a finished program left. ``returncode`` is negative (-signal) when a signal ended it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.returncode == 0


class ProgramFailed(InternalError):
    """A host program ended with a non-zero status; ``completed`` has its output."""

    def __init__(self, completed: Completed) -> None:
        tail = (completed.stderr or completed.stdout)[-_TAIL:].decode("utf-8", "replace").strip()
        super().__init__(f"{_name(completed.argv)} ended with status {completed.returncode}: {tail or 'no output'}")
        self.completed = completed


class ProgramTimedOut(TemporaryError):
    """A host program did not finish in time; its process group was killed."""


class ProgramMissing(InternalError):
    """A host program is not installed."""


def run(
    argv: Sequence[str],
    *,
    cwd: Path | str,
    env: Mapping[str, str],
    input: bytes | None = None,
    timeout: float = 60.0,
    check: bool = True,
    user: int | None = None,
    group: int | None = None,
) -> Completed:
    """Runs ``argv`` to its end. ``env`` is the complete environment: nothing is inherited.

    ``timeout`` in seconds; past it the whole process group is killed and ProgramTimedOut raised.
    With ``check`` a non-zero status raises ProgramFailed. ``user`` and ``group`` drop to that uid first (root only).
    """
    words = tuple(argv)
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            close_fds=True,
            user=user,
            group=user if group is None else group,
            extra_groups=None if user is None else [],
        )
    except FileNotFoundError as error:
        if error.filename is not None and os.fspath(error.filename) == os.fspath(cwd):
            raise InternalError(f"{_name(words)} cannot start because the folder {cwd} does not exist.") from error
        raise ProgramMissing(f"The program {_name(words)} is not installed.", f"Install {_name(words)}.") from error
    try:
        stdout, stderr = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        process.communicate()
        raise ProgramTimedOut(f"{_name(words)} did not finish within {timeout:g} s and was killed.") from None
    except BaseException:
        kill_group(process.pid)
        process.wait()
        raise
    completed = Completed(words, process.returncode, stdout, stderr)
    if check and not completed.ok:
        raise ProgramFailed(completed)
    return completed


class HostProcess:
    """A long-lived host program in a session of its own. The caller stops it; it dies with nobody."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path | str, env: Mapping[str, str], log: Path | None = None
    ) -> None:
        self.argv = tuple(argv)
        sink = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                self.argv,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise ProgramMissing(f"The program {_name(self.argv)} cannot be started: {error}.") from error
        finally:
            os.close(sink)

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; raises ProgramTimedOut after ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramTimedOut(f"{_name(self.argv)} is still running after {timeout:g} s.") from None

    def stop(self, grace: float = 5.0) -> int:
        """SIGTERM, then after ``grace`` seconds SIGKILL to its whole process group; returns the status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                kill_group(self._process.pid)
        return self._process.wait()


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that ``pid`` leads; silence when it is gone."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _name(argv: tuple[str, ...]) -> str:
    return argv[0] if argv else "the program"


def start_detached(argv: Sequence[str], env: Mapping[str, str], log: Path) -> int:
    """Starts a long-lived program in a session of its own, its output appended to ``log``; answers its pid.

    It outlives the caller. ``env`` is its whole environment.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            list(argv), env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    return child.pid
