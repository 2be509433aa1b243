"""First tier: bubblewrap's namespaces, the seccomp program, and rlimits set before the command's first instruction."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from fleet.adapters.sandbox import base, policy, procfs
from fleet.adapters.sandbox.meter import Meter
from fleet.adapters.sandbox.watch import DEATH_SECONDS, Outcome, Watch
from fleet.core.errors import InternalError
from fleet.core.ports import Clock
from fleet.core.sandbox import MIB, Ending, Enforced, Limits, SandboxResult, SandboxSpec, Tier

WORKSPACE = Path("/workspace")
PRLIMIT = "/usr/bin/prlimit"
_TMPFS_BYTES = 256 * MIB
_INNER_ID = 1000
_TAKEN = ("/workspace", "/proc", "/dev")
_FILES = {
    "/etc/passwd": b"box:x:1000:1000:box:/tmp/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "/etc/group": b"box:x:1000:\nnogroup:x:65534:\n",
    "/etc/hosts": b"127.0.0.1 localhost box\n::1 localhost\n",
    "/etc/resolv.conf": b"",
    "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\n",
}
_START_SECONDS = 30.0


class BubblewrapSandbox:
    """Implements ``fleet.core.sandbox.Sandbox``. ``slot_uid``: the uid that root drops to; None for one's own.

    Raises InternalError when it would run as root: the limit on processes does not bind root.
    """

    ENFORCED: ClassVar[Enforced] = Enforced(
        filesystem="mount namespace: the workspace is writable, named folders are read-only, the rest is absent",
        network="network namespace without a way out; only TCP on a loopback of its own and unix sockets inside",
        processes="RLIMIT_NPROC in a user namespace of its own; the tree is polled every 50 ms",
        memory="RLIMIT_DATA per process; the tree is polled every 50 ms and may overshoot",
        disk="RLIMIT_FSIZE per file; the tree is polled and may overshoot; /tmp and /dev/shm hold 256 MiB each",
        process_tree="PID namespace: its end is the end of every process in it",
    )

    def __init__(
        self,
        *,
        bwrap: str,
        machine: str,
        clock: Clock,
        slot_uid: int | None = None,
        slot_gid: int | None = None,
    ) -> None:
        self.bwrap = bwrap
        self.slot_uid = slot_uid
        self._machine = machine
        self._clock = clock
        self._uid, self._gid = base.identity(slot_uid, slot_gid)
        self.slot_gid = None if slot_uid is None else self._gid

    @property
    def tier(self) -> Tier:
        return Tier.BUBBLEWRAP

    @property
    def enforced(self) -> Enforced:
        if self.slot_uid is None:
            return replace(self.ENFORCED, notes=("all commands share the user's uid outside their namespaces",))
        return self.ENFORCED

    def inside(self, workspace: Path) -> Path:
        return WORKSPACE

    def run(
        self,
        spec: SandboxSpec,
        on_output: Callable[[bytes], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SandboxResult:
        """See the port. The caller's thread starts and waits, because --die-with-parent follows the thread."""
        base.validate(spec, self._uid, self._gid)
        _check_mounts(spec)
        if base.too_long(spec):
            return base.not_taken(spec)
        started = self._clock.monotonic()
        with ExitStack() as held:
            box = _Box(self, spec, self._clock, held)
            outcome = box.follow(on_output, should_stop)
            told = box.exit_code()
        return _result(outcome, told, box.bwrap_status(), self._clock.monotonic() - started)

    def arguments(self, spec: SandboxSpec, files: dict[str, int], seccomp: int) -> list[str]:
        """The words of bwrap before the command. ``files`` maps a path inside to the descriptor with its content."""
        words = [*self.isolation(), *_system(), *_environment(spec)]
        for path, descriptor in files.items():
            words += ["--ro-bind-data", str(descriptor), path]
        words += ["--proc", "/proc", "--dev", "/dev"]
        for mount in ("/dev/shm", "/tmp"):
            words += ["--size", str(_TMPFS_BYTES), "--tmpfs", mount]
        words += ["--dir", "/tmp/home"]
        # after the tmpfs mounts, or a toolchain below /tmp would vanish under them
        words += _binds(spec)
        words += ["--bind", str(spec.workspace), str(WORKSPACE)]
        words += ["--remount-ro", "/dev", "--remount-ro", "/"]
        words += ["--chdir", str(WORKSPACE / spec.cwd), "--seccomp", str(seccomp)]
        return words

    def isolation(self) -> list[str]:
        """The namespaces and what else cuts the command off."""
        return [
            "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
            "--unshare-cgroup-try", "--disable-userns", "--uid", str(_INNER_ID), "--gid", str(_INNER_ID),
            "--hostname", "box", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv",
        ]  # fmt: skip

    def program(self) -> bytes:
        """The seccomp program."""
        return policy.program(self._machine, namespaces=True)

    def limited(self, limits: Limits) -> list[str]:
        """The program that sets the limits inside and becomes the command.

        Not set from outside: root in a container often lacks CAP_SYS_RESOURCE; not before bwrap: RLIMIT_NPROC would
        count all processes of the user instead of those in the new user namespace.
        """
        values = base.rlimits(limits, limits.processes + base.TASK_SLACK)
        return [PRLIMIT, *(f"--{name}={value}:{value}" for name, value in values.items()), "--"]


class _Box:
    """One started bwrap: held before the command's first instruction until it is watched; its tree; its death."""

    def __init__(self, sandbox: BubblewrapSandbox, spec: SandboxSpec, clock: Clock, held: ExitStack) -> None:
        self._spec = spec
        self._clock = clock
        self._text = b""
        with ExitStack() as passed:
            self._status, status_in = base.pipe(held, passed)
            block, self._block = base.pipe(passed, held)
            self._process = _start(sandbox, spec, status_in, block, passed)
        held.callback(self._close)
        self.pid, self._pidfd = self._first_process(held)
        roots = (spec.workspace, *spec.writable)
        self._meter = Meter(spec.limits, roots, clock, self._memory_mounts)

    def follow(self, on_output: Callable[[bytes], None] | None, should_stop: Callable[[], bool] | None) -> Outcome:
        os.write(self._block, b"1")
        return Watch(
            self._process,
            rows=lambda: procfs.descendants(self.pid),
            kill=self.kill,
            meter=self._meter,
            limits=self._spec.limits,
            clock=self._clock,
            on_output=on_output,
            should_stop=should_stop,
        ).follow()

    def kill(self) -> None:
        """Ends the PID namespace by its first process. The kernel reports its death only after all others' deaths."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        if not _readable(self._pidfd, DEATH_SECONDS):
            raise InternalError(f"The sandbox's first process {self.pid} survived SIGKILL for {DEATH_SECONDS:g} s.")
        self._process.wait()

    def exit_code(self) -> int | None:
        """The command's own status as bwrap tells it; None when bwrap never came so far."""
        while _readable(self._status, 0):
            chunk = os.read(self._status, 4096)
            if not chunk:
                break
            self._text += chunk
        for line in self._text.splitlines():
            with suppress(ValueError):
                told = json.loads(line)
                if "exit-code" in told:
                    return int(told["exit-code"])
        return None

    def bwrap_status(self) -> int:
        return self._process.wait()

    def _first_process(self, held: ExitStack) -> tuple[int, int]:
        deadline = self._clock.monotonic() + _START_SECONDS
        while b"\n" not in self._text:
            chunk = os.read(self._status, 4096) if _readable(self._status, deadline - self._clock.monotonic()) else b""
            if not chunk:
                self._process.kill()
                _, stderr = self._process.communicate()
                raise SetupFailed(stderr)
            self._text += chunk
        pid = int(json.loads(self._text.split(b"\n", 1)[0])["child-pid"])
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            _, stderr = self._process.communicate()
            raise SetupFailed(stderr) from None
        held.callback(os.close, pidfd)
        held.callback(self.kill)
        return pid, pidfd

    def _memory_mounts(self) -> tuple[str, ...]:
        return own_memory(self.pid)

    def _close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def own_memory(pid: int) -> tuple[str, ...]:
    """The memory file systems of a sandbox by its first process ``pid``, as paths of the host.

    None before bwrap has changed the root: until then /proc/PID/root/tmp is the machine's own /tmp, and a busy machine
    would charge the command with everything that lies there.
    """
    places = {name: f"/proc/{pid}/root{name}" for name in ("/tmp", "/dev/shm")}
    return tuple(path for name, path in places.items() if _device(path) != _device(name))


def _device(path: str) -> int:
    """Which file system it lies on; 0 when it is not there."""
    try:
        return os.stat(path).st_dev
    except OSError:
        return 0


class SetupFailed(InternalError):
    """bwrap could not build the sandbox: the command never ran."""

    def __init__(self, stderr: bytes) -> None:
        said = stderr.decode("utf-8", "replace").strip() or "it said nothing"
        super().__init__(f"bubblewrap could not build the sandbox: {said}.", "Run `fleet doctor`.")
        self.said = said


def _start(
    sandbox: BubblewrapSandbox, spec: SandboxSpec, status: int, block: int, passed: ExitStack
) -> subprocess.Popen[bytes]:
    files = {path: base.memory_file(passed, content) for path, content in _FILES.items()}
    seccomp = base.memory_file(passed, sandbox.program())
    words = sandbox.arguments(spec, files, seccomp)
    words += ["--json-status-fd", str(status), "--block-fd", str(block)]
    # by descriptor, so that neither ``ps`` on the host nor /proc/1/cmdline inside shows paths or environment
    packed = base.memory_file(passed, b"".join(os.fsencode(word) + b"\0" for word in words))
    slot = sandbox.slot_uid
    return subprocess.Popen(
        [sandbox.bwrap, "--args", str(packed), "--", *sandbox.limited(spec.limits), *spec.argv],
        stdin=base.memory_file(passed, spec.stdin) if spec.stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},  # --clearenv alone leaves the environment readable in /proc/1/environ
        pass_fds=(*files.values(), seccomp, packed, status, block),
        start_new_session=True,
        umask=0o022,
        user=slot,
        group=sandbox.slot_gid,
        extra_groups=None if slot is None else [],
    )


def _system() -> list[str]:
    words = ["--ro-bind", "/usr", "/usr"]
    for folder in base.SYSTEM_FOLDERS:
        if os.path.islink(folder):
            words += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            words += ["--ro-bind", folder, folder]
    for path in base.ETC:
        words += ["--ro-bind-try", path, path]
    return words


def _environment(spec: SandboxSpec) -> list[str]:
    words: list[str] = []
    for name, value in base.environment(spec, home="/tmp/home", temporary="/tmp").items():
        words += ["--setenv", name, value]
    return words


def _binds(spec: SandboxSpec) -> list[str]:
    # a folder before what lies in it, and on the same path the writable one last
    wanted = [(path.parts, 0, path) for path in spec.read_only] + [(path.parts, 1, path) for path in spec.writable]
    words: list[str] = []
    for _, writable, path in sorted(wanted):
        words += ["--bind" if writable else "--ro-bind", str(path), str(path)]
    return words


def _result(outcome: Outcome, told: int | None, bwrap_status: int, seconds: float) -> SandboxResult:
    stdout, stderr = bytes(outcome.stdout), bytes(outcome.stderr)
    if outcome.ending is not None:
        code = 128 + signal.SIGKILL if told is None else told
        return SandboxResult(outcome.ending, code, stdout, stderr, outcome.truncated, seconds)
    if told is None and bwrap_status < 0:  # somebody, such as the kernel short of memory, killed bwrap itself
        code = 128 - bwrap_status
        return SandboxResult(Ending.SIGNALED, code, stdout, stderr, outcome.truncated, seconds)
    if told is None:
        raise SetupFailed(stderr)
    if told in (126, 127) and stderr.startswith(b"prlimit: failed to execute "):
        return SandboxResult(Ending.NOT_FOUND, told, stdout, stderr, outcome.truncated, seconds)
    ending = Ending.SIGNALED if base.is_signal_status(told) else Ending.EXITED
    return SandboxResult(ending, told, stdout, stderr, outcome.truncated, seconds)


def _check_mounts(spec: SandboxSpec) -> None:
    for path in (*spec.read_only, *spec.writable):
        if any(path.is_relative_to(taken) for taken in _TAKEN):
            own = f"/{path.parts[1]}"
            raise InternalError(f"The sandbox cannot show {path}, because it has a folder {own} of its own.")


def _readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], max(0.0, seconds))[0])
