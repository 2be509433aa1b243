"""Second tier, where user namespaces are forbidden: Landlock (ABI ≥ 6), the stricter seccomp program, and rlimits.

A small launcher process confines its child and then watches over it: as child subreaper it inherits every process
that the command detached, and ends them all before it ends itself.
"""

from __future__ import annotations

import functools
import marshal
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

from fleet.adapters.sandbox import base, launcher, policy, procfs
from fleet.adapters.sandbox.meter import Meter
from fleet.adapters.sandbox.scratch import private_folder
from fleet.adapters.sandbox.watch import DEATH_SECONDS, Outcome, Watch
from fleet.core.errors import InternalError
from fleet.core.ports import Clock
from fleet.core.sandbox import Ending, Enforced, SandboxResult, SandboxSpec, Tier

# Runs the compiled launcher that the third descriptor holds.
_START = "import marshal, sys; exec(marshal.loads(open(int(sys.argv[3]), 'rb').read()))"
# The kernel counts every process of the person, and those come and go: without room for them a command would fail
# because its owner opened a browser. What a command's own tree may hold is polled, and exact.
_SHARED_UID_SLACK = 256
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_READABLE = (
    "/usr", *base.SYSTEM_FOLDERS, *base.ETC,
    "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/proc/cpuinfo", "/proc/meminfo",
)  # fmt: skip


class LandlockSandbox:
    """Implements ``fleet.core.sandbox.Sandbox``. ``scratch`` holds a private temporary folder per command."""

    ENFORCED: ClassVar[Enforced] = Enforced(
        filesystem="Landlock: the workspace is writable, named folders are read-only, no other file can be opened",
        network="no socket can be made (seccomp); TCP and abstract sockets are also refused by Landlock",
        processes="RLIMIT_NPROC of the uid; the tree is polled every 50 ms",
        memory="RLIMIT_DATA per process; the tree is polled every 50 ms and may overshoot",
        disk="RLIMIT_FSIZE per file; the tree is polled and may overshoot",
        process_tree="child subreaper that ends every descendant; a kill -9 of it too leaves them to the janitor",
        notes=(
            "Landlock does not hold metadata: modes and times of files that the uid owns elsewhere can be changed",
            "no /proc and no /dev/shm inside",
        ),
    )

    def __init__(
        self,
        *,
        machine: str,
        scratch: Path,
        clock: Clock,
        slot_uid: int | None = None,
        slot_gid: int | None = None,
    ) -> None:
        self._machine = machine
        self._scratch = scratch
        self._clock = clock
        self._slot = slot_uid
        self._uid, self._gid = base.identity(slot_uid, slot_gid)

    @property
    def tier(self) -> Tier:
        return Tier.LANDLOCK

    @property
    def enforced(self) -> Enforced:
        return self.ENFORCED

    def inside(self, workspace: Path) -> Path:
        return workspace

    def run(
        self,
        spec: SandboxSpec,
        on_output: Callable[[bytes], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SandboxResult:
        """See the port. The caller's thread starts and waits: the launcher's death signal follows the thread."""
        base.validate(spec, self._uid, self._gid)
        if base.too_long(spec):
            return base.not_taken(spec)
        started = self._clock.monotonic()
        with ExitStack() as held:
            temporary = self._temporary(held)
            guarded = _Guarded(self.plan(spec, temporary), spec, temporary, self._clock, held)
            outcome = guarded.follow(on_output, should_stop)
            told = guarded.told()
        return _result(outcome, told, self._clock.monotonic() - started)

    def plan(self, spec: SandboxSpec, temporary: Path) -> launcher.Plan:
        """What the launcher is told: words, environment, rules, filter, limits, identity."""
        writable = [str(path) for path in (spec.workspace, *spec.writable, temporary)]
        readable = [path for path in (*_READABLE, *map(str, spec.read_only)) if os.path.exists(path)]
        tasks = spec.limits.processes + base.TASK_SLACK + (_SHARED_UID_SLACK if self._slot is None else 0)
        return {
            "argv": list(spec.argv),
            "env": base.environment(spec, home=str(temporary / "home"), temporary=str(temporary)),
            "cwd": str(spec.workspace / spec.cwd),
            "writable": writable,
            "readable": readable,
            "devices": [path for path in _DEVICES if os.path.exists(path)],
            "seccomp": self.program(),
            "rlimits": base.rlimits(spec.limits, tasks + procfs.tasks_of(self._uid)),
            "uid": None if self._slot is None else self._uid,
            "gid": None if self._slot is None else self._gid,
            "parent": os.getpid(),
        }

    def program(self) -> bytes:
        """The seccomp program."""
        return policy.program(self._machine, namespaces=False)

    def _temporary(self, held: ExitStack) -> Path:
        folder = held.enter_context(private_folder(self._scratch, "tmp-"))
        home = folder / "home"
        home.mkdir(mode=0o700)
        if self._slot is not None:
            os.chown(home, self._uid, self._gid)
            os.chown(folder, self._uid, self._gid)
        base.check_reachable(folder, self._uid, self._gid)
        return folder


@functools.lru_cache(4)
def _program(file: str, changed_ns: int) -> bytes:
    """The launcher, compiled once: Python would compile it anew for every command."""
    return marshal.dumps(compile(Path(file).read_bytes(), file, "exec", dont_inherit=True))


class _Guarded:
    """One started launcher with its command."""

    def __init__(self, plan: launcher.Plan, spec: SandboxSpec, temporary: Path, clock: Clock, held: ExitStack) -> None:
        self._spec = spec
        self._clock = clock
        self._meter = Meter(spec.limits, (spec.workspace, *spec.writable, temporary), clock)
        with ExitStack() as passed:
            self._status, status_in = base.pipe(held, passed)
            packed = base.memory_file(passed, marshal.dumps(dict(plan)))
            program = base.memory_file(passed, _program(launcher.__file__, os.stat(launcher.__file__).st_mtime_ns))
            words = [sys.executable, "-I", "-S", "-B", "-c", _START, str(packed), str(status_in), str(program)]
            self._process = subprocess.Popen(
                words,
                stdin=base.memory_file(passed, spec.stdin) if spec.stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={},
                pass_fds=(packed, status_in, program),
                start_new_session=True,
                umask=0o022,
            )
        held.callback(self._close)
        held.callback(self.kill)

    def follow(self, on_output: Callable[[bytes], None] | None, should_stop: Callable[[], bool] | None) -> Outcome:
        return Watch(
            self._process,
            rows=lambda: procfs.descendants(self._process.pid),
            kill=self.kill,
            meter=self._meter,
            limits=self._spec.limits,
            clock=self._clock,
            on_output=on_output,
            should_stop=should_stop,
        ).follow()

    def kill(self) -> None:
        """Asks the launcher to end the tree; it ends only when nothing is left."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            for one in procfs.descendants(self._process.pid):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(one.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            raise InternalError(f"A sandboxed process tree survived its kill for {DEATH_SECONDS:g} s.") from None

    def told(self) -> tuple[str, int] | None:
        """The launcher's last words: what became of the command, and its status."""
        text = b""
        while select.select([self._status], [], [], 0)[0]:
            chunk = os.read(self._status, 4096)
            if not chunk:
                break
            text += chunk
        kind, _, value = text.decode("utf-8", "replace").strip().partition(" ")
        return (kind, int(value)) if value.lstrip("-").isdigit() else None

    def _close(self) -> None:
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def _result(outcome: Outcome, told: tuple[str, int] | None, seconds: float) -> SandboxResult:
    stdout, stderr = bytes(outcome.stdout), bytes(outcome.stderr)
    kind, code = told if told is not None else ("killed", 128 + signal.SIGKILL)
    if outcome.ending is not None:
        return SandboxResult(outcome.ending, code, stdout, stderr, outcome.truncated, seconds)
    if told is None or kind == "setup":
        said = stderr.decode("utf-8", "replace").strip() or "it said nothing"
        raise InternalError(f"The Landlock launcher could not confine the command: {said}.", "Run `fleet doctor`.")
    if kind == "missing":
        return SandboxResult(Ending.NOT_FOUND, code, stdout, stderr, outcome.truncated, seconds)
    ending = Ending.SIGNALED if base.is_signal_status(code) else Ending.EXITED
    return SandboxResult(ending, code, stdout, stderr, outcome.truncated, seconds)
