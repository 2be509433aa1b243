"""Confines one command with Landlock and seccomp, and ends everything that it leaves behind.

A program of its own, started by ``fleet.adapters.sandbox.landlock`` as ``python -I -S … PLAN_FD STATUS_FD``: fork
followed by Python code is not safe in a process with threads. Each command starts it, so it imports next to nothing:
``typing`` and ``signal`` alone would take longer than the interpreter's own start.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn, TypedDict

    class Plan(TypedDict):
        """``rlimits`` by the names of prlimit(1); ``uid``, ``gid`` None: stay oneself; ``parent``: the fleet's pid."""

        argv: list[str]
        env: dict[str, str]
        cwd: str
        writable: list[str]
        readable: list[str]
        devices: list[str]
        seccomp: bytes
        rlimits: dict[str, int]
        uid: int | None
        gid: int | None
        parent: int
else:
    import _signal as signal  # the same functions without the names of ``enum``


_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_RULE_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
_ALL_FILES = (1 << 16) - 1
_ALL_NET = 0b11  # bind and connect TCP
_ALL_SCOPES = 0b11  # abstract unix sockets, signals
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ_ONLY = _EXECUTE | _READ_FILE | _READ_DIR
_DEVICE = _WRITE_FILE | _READ_FILE

_FAILED = 125


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _call(name: str, answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return answer


class _Kernel:
    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        self._libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

    def prctl(self, option: int, value: int = 0, pointer: int = 0) -> None:
        _call("prctl", self._libc.prctl(option, value, pointer, 0, 0))

    def landlock(self, plan: Plan) -> int:
        """The descriptor of the rules. Opened before the uid is dropped, so that any folder can be named."""
        attributes = _Ruleset(_ALL_FILES, _ALL_NET, _ALL_SCOPES)
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        create = self._libc.syscall(ctypes.c_long(_CREATE_RULESET), ctypes.byref(attributes), size, ctypes.c_uint32(0))
        rules = _call("landlock_create_ruleset", create)
        for paths, access in (
            (plan["readable"], _READ_ONLY),
            (plan["devices"], _DEVICE),
            (plan["writable"], _ALL_FILES & ~_IOCTL_DEV),
        ):
            for path in paths:
                self._allow(rules, path, access)
        return rules

    def restrict(self, rules: int) -> None:
        answer = self._libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(rules), ctypes.c_uint32(0))
        _call("landlock_restrict_self", answer)

    def seccomp(self, program: bytes) -> None:
        held = _Program(len(program) // 8, program)
        self.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(held))

    def _allow(self, rules: int, path: str, access: int) -> None:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not os.path.isdir(path):
                access &= _FOR_FILES
            rule = _PathBeneath(access, folder)
            answer = self._libc.syscall(
                ctypes.c_long(_ADD_RULE),
                ctypes.c_int(rules),
                ctypes.c_int(_RULE_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint32(0),
            )
            _call(f"landlock_add_rule {path}", answer)
        finally:
            os.close(folder)


def _command(plan: Plan, kernel: _Kernel, guard: int, told: int) -> NoReturn:
    """In the child: confines itself, then becomes the command."""
    kind, code = "setup", _FAILED
    try:
        os.setsid()
        kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
        rules = kernel.landlock(plan)
        uid, gid = plan["uid"], plan["gid"]
        if uid is not None and gid is not None:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of uid clears it
        if os.getppid() != guard:
            os._exit(_FAILED)
        for name, value in plan["rlimits"].items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))
        os.chdir(plan["cwd"])
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores these two, and a command would inherit that
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        kernel.restrict(rules)
        kernel.seccomp(plan["seccomp"])
        kind = "missing"
        _become(plan["argv"], plan["env"])
    except FileNotFoundError as error:
        code = 127 if kind == "missing" else _FAILED
        _say(2, f"{plan['argv'][0] if kind == 'missing' else error.filename}: not found\n")
    except OSError as error:
        code = 126 if kind == "missing" else _FAILED
        _say(2, f"{plan['argv'][0]}: {error}\n")
    finally:
        _say(told, kind)
        os._exit(code)


def _become(argv: list[str], env: dict[str, str]) -> NoReturn:
    """What ``os.execvpe`` does; that one imports a module first, which the rules may not let us read any more."""
    if "/" in argv[0]:
        os.execve(argv[0], argv, env)
    refused: OSError | None = None
    for folder in env["PATH"].split(":"):
        try:
            os.execve(f"{folder}/{argv[0]}", argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = refused or error
    raise refused or FileNotFoundError(argv[0])


def _say(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode("utf-8", "surrogateescape"))


def _below(root: int) -> list[int]:
    """Every process below ``root``, by one pass over /proc."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as handle:
                    text = handle.read()
            except OSError:
                continue
            parents[int(name)] = int(text[text.rindex(b")") + 2 :].split()[1])
    found: list[int] = []
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found += level
    return found


def _end_all() -> None:
    """Kills and reaps until this process has no child; as subreaper it gets every orphan of the tree.

    Each round also takes the right to fork away, so that a fork bomb cannot outrun the rounds.
    """
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                continue
        except ChildProcessError:
            return
        for pid in _below(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
                resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))
            except (ProcessLookupError, PermissionError):
                continue
        os.waitpid(-1, 0)


def _guard(child: int, failed: int) -> tuple[str, int]:
    """Waits for the command or for SIGTERM; returns what became of the command."""
    while True:
        if signal.sigwait((signal.SIGCHLD, signal.SIGTERM)) == signal.SIGTERM:
            return "killed", 128 + signal.SIGKILL
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return "killed", 128 + signal.SIGKILL
            if pid == 0:
                break
            if pid == child:
                kind = os.read(failed, 64).decode() or "exit"
                code = os.waitstatus_to_exitcode(status)
                return kind, code if code >= 0 else 128 - code


def main(plan_fd: int, status_fd: int) -> None:
    """Reads the plan, starts the command, ends its tree, writes ``<kind> <status>``."""
    with open(plan_fd, "rb") as handle:
        plan: Plan = marshal.loads(handle.read())
    os.set_inheritable(status_fd, False)
    kernel = _Kernel()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    kernel.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != plan["parent"]:
        return
    guard = os.getpid()
    failed, failed_in = os.pipe()
    child = os.fork()
    if child == 0:
        _command(plan, kernel, guard, failed_in)
    os.close(failed_in)
    empty = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(empty, descriptor)
    kind, code = _guard(child, failed)
    _end_all()
    _say(status_fd, f"{kind} {code}\n")
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
