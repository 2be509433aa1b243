"""What both tiers share: the clean environment, the system folders, and the checks of a spec."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from fleet.adapters.sandbox.facts import CLEAN_PATH
from fleet.core.errors import InternalError
from fleet.core.sandbox import Ending, Limits, SandboxResult, SandboxSpec

MEMORY_SLACK = 4  # one process may hold a quarter more than the tree before the kernel refuses it
TASK_SLACK = 8  # bwrap's own two processes and the moment between two polls

_WORD_BYTES = 128 * 1024  # MAX_ARG_STRLEN with pages of 4 KiB
_WORDS_BYTES = 1_800_000  # a quarter of the usual stack, with room for the fixed environment

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "CI": "1",
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
}

SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")
ETC = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/etc/mime.types",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/magic",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/python3.12",
    "/etc/python3.13",
    "/etc/python3.14",
)


def environment(spec: SandboxSpec, home: str, temporary: str) -> dict[str, str]:
    """The whole environment of the command: the fixed one, then what the spec adds."""
    front = [str(path) for path in spec.path]
    fixed = ENVIRONMENT | {"PATH": ":".join([*front, CLEAN_PATH]), "HOME": home, "TMPDIR": temporary}
    return fixed | dict(spec.env)


def identity(slot_uid: int | None, slot_gid: int | None = None) -> tuple[int, int]:
    """The uid and gid that commands get; ``slot_gid`` None: the same number as the uid.

    Raises InternalError where that would be root or needs to be root.
    """
    own = os.geteuid()
    if slot_uid is None or slot_uid == own:
        if own == 0:
            raise InternalError("A sandbox started by root needs the uid of a slot to drop to.")
        return own, os.getegid()
    if slot_uid <= 0:
        raise InternalError(f"The slot uid {slot_uid} is not an unprivileged user.")
    if own != 0:
        raise InternalError(f"Only root can start a sandbox as the uid {slot_uid}.")
    return slot_uid, slot_uid if slot_gid is None else slot_gid


def rlimits(limits: Limits, tasks: int) -> dict[str, int]:
    """Limits that the kernel holds for each process (``nproc``: threads of the uid), by the names of prlimit(1)."""
    wanted = {
        "core": 1,  # 0 would still start a core_pattern program of the host; 1 starts none and writes none
        "data": limits.memory_bytes + limits.memory_bytes // MEMORY_SLACK,
        "fsize": limits.disk_bytes,
        "nofile": limits.open_files,
        "nproc": tasks,
    }
    # an unprivileged process may not go above the hard limit that the fleet itself was started with
    hard = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1] for name in wanted}
    return {
        name: value if hard[name] == resource.RLIM_INFINITY else min(value, hard[name])
        for name, value in wanted.items()
    }


def too_long(spec: SandboxSpec) -> bool:
    """Whether the kernel would not take the words and the environment."""
    words = [os.fsencode(word) for word in spec.argv]
    words += [os.fsencode(f"{name}={value}") for name, value in spec.env.items()]
    return any(len(word) >= _WORD_BYTES for word in words) or sum(len(word) + 9 for word in words) > _WORDS_BYTES


def not_taken(spec: SandboxSpec) -> SandboxResult:
    """What a shell says of words that the kernel does not take."""
    said = f"{spec.argv[0]}: Argument list too long\n".encode("utf-8", "surrogateescape")
    return SandboxResult(Ending.NOT_FOUND, 126, b"", said, False, 0.0)


def is_signal_status(code: int) -> bool:
    """Whether ``code`` is how a shell would tell a death by signal."""
    return 128 < code < 128 + signal.NSIG


def memory_file(held: ExitStack, content: bytes) -> int:
    """A descriptor of an anonymous file with ``content``, at its start; closed with ``held``."""
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC)
    held.callback(os.close, descriptor)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe whose two ends are closed by two owners."""
    out, into = os.pipe()
    reader.callback(os.close, out)
    writer.callback(os.close, into)
    return out, into


def validate(spec: SandboxSpec, uid: int, gid: int) -> None:
    """Raises InternalError when the spec cannot be carried out as ``uid``: the caller has a bug, not the command."""
    if not spec.argv:
        raise InternalError("A sandboxed command needs at least one word.")
    inner = PurePosixPath(spec.cwd)
    if inner.is_absolute() or ".." in inner.parts:
        raise InternalError(f"The working directory {spec.cwd!r} does not lie inside the workspace.")
    for word in (*spec.argv, *spec.env, *spec.env.values()):
        if "\0" in word:
            raise InternalError("A sandboxed command and its environment cannot hold a NUL byte.")
    for path in (spec.workspace, *spec.read_only, *spec.writable):
        check_reachable(path, uid, gid)


def check_reachable(path: Path, uid: int, gid: int) -> None:
    """Raises InternalError unless ``uid`` may walk to ``path``; names the folder that stands in the way."""
    if not path.is_absolute() or ".." in path.parts:
        raise InternalError(f"The path {path} of a sandboxed command must be absolute and without '..'.")
    blocked = unreachable(path, uid, gid)
    if blocked is not None:
        raise InternalError(
            f"The sandbox's user {uid} cannot reach {path}, because {blocked}.",
            "Keep it in a folder that this user may enter.",
        )


def unreachable(path: Path, uid: int, gid: int) -> str | None:
    """Why ``uid`` cannot walk to ``path``; None when it can."""
    for folder in _folders_to(path):
        try:
            facts = os.stat(folder)
        except OSError as error:
            return f"{folder} cannot be read ({error.strerror})"
        if stat.S_ISDIR(facts.st_mode) and not _may_enter(facts, uid, gid):
            return f"{folder} is closed to it (mode {stat.S_IMODE(facts.st_mode):o})"
    return None


def _folders_to(path: Path) -> Iterator[Path]:
    resolved = Path(os.path.realpath(path))
    yield from reversed(resolved.parents)
    yield resolved


def _may_enter(facts: os.stat_result, uid: int, gid: int) -> bool:
    if uid == 0:
        return True
    if facts.st_uid == uid:
        return bool(facts.st_mode & stat.S_IXUSR)
    if facts.st_gid == gid:
        return bool(facts.st_mode & stat.S_IXGRP)
    return bool(facts.st_mode & stat.S_IXOTH)
