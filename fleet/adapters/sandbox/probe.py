"""Proof of a sandbox: the hostile script runs in it against real targets, and both sides are asked what happened."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fleet.adapters.sandbox import base, hostile
from fleet.adapters.sandbox.facts import SystemFacts
from fleet.adapters.sandbox.scratch import private_folder
from fleet.core.errors import FleetError
from fleet.core.sandbox import MIB, Limits, Sandbox, SandboxSpec, Tier

_MARKER_BYTES = 8
_LIMITS = Limits(memory_bytes=512 * MIB, processes=32, disk_bytes=16 * MIB, output_bytes=MIB, seconds=30.0)


@dataclass(frozen=True, slots=True)
class Proof:
    """``holds`` or why not; ``breaches`` are names of attacks that succeeded."""

    holds: bool
    reason: str = ""
    breaches: tuple[str, ...] = ()


def prove(sandbox: Sandbox, scratch: Path, slot_uid: int | None, slot_gid: int | None = None) -> Proof:
    """Runs the hostile script. Never raises for a sandbox that does not work: that is an answer."""
    uid, gid = base.identity(slot_uid, slot_gid)
    base.check_reachable(scratch, uid, gid)
    with private_folder(scratch, "probe-", mode=0o711) as folder:
        return _attack(sandbox, folder, uid, gid)


def interpreter(uid: int, gid: int) -> tuple[str, tuple[Path, ...]] | None:
    """A Python that ``uid`` can start, and the folders it needs to see; None when there is none."""
    own = Path(os.path.realpath(sys.executable))
    prefix = Path(os.path.realpath(sys.base_prefix))
    for program, folders in ((own, (prefix,)), (Path("/usr/bin/python3"), ()), (Path("/usr/local/bin/python3"), ())):
        if base.unreachable(program, uid, gid) is None:
            return str(program), tuple(path for path in folders if not path.is_relative_to("/usr"))
    return None


def _attack(sandbox: Sandbox, folder: Path, uid: int, gid: int) -> Proof:
    found = interpreter(uid, gid)
    if found is None:
        return Proof(False, f"no Python that the user {uid} can start was found for the probe; install python3")
    program, folders = found
    workspace = folder / "workspace"
    workspace.mkdir()
    if os.geteuid() != uid:
        os.chown(workspace, uid, gid)
    text = Path(hostile.__file__).read_text()
    with _targets(folder, uid) as (targets, touched):
        spec = SandboxSpec(
            argv=(program, "-I", "-S", "-c", text, json.dumps(targets)),
            workspace=workspace,
            read_only=folders,
            stdin=targets["marker"].encode(),
            limits=_LIMITS,
        )
        try:
            result = sandbox.run(spec)
        except FleetError as error:
            return Proof(False, error.message)
        breaches = list(touched())
    try:
        told = json.loads(result.stdout)
        breaches += told["breaches"]
        works = told["echo"] == targets["marker"] and (workspace / "written-inside").read_text() == targets["marker"]
    except (ValueError, KeyError, OSError):
        said = result.stderr.decode("utf-8", "replace").strip().splitlines()
        return Proof(False, f"the probe ended with {result.exit_code}: {said[-1] if said else 'no output'}")
    if breaches:
        names = tuple(dict.fromkeys(breaches))
        return Proof(False, f"the probe got out: {', '.join(names)}", names)
    return Proof(works, "" if works else "the probe could not work inside")


@contextmanager
def _targets(folder: Path, uid: int) -> Iterator[tuple[dict[str, Any], Any]]:
    """Things on the host that the attacks must not reach, and a function that tells which were reached after all."""
    marker = os.urandom(_MARKER_BYTES).hex()
    secret = folder / "secret"
    secret.write_text(marker)
    secret.chmod(0o644)
    open_folder = folder / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    with ExitStack() as held:
        tcp = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        path = held.enter_context(_unix(str(folder / "s")))
        (folder / "s").chmod(0o777)
        abstract = held.enter_context(_unix(f"\0fleet-probe-{marker}"))
        victim = held.enter_context(_victim(marker, uid))
        targets = {
            "marker": marker,
            "secret": str(secret),
            "open_folder": str(open_folder),
            "port": tcp.getsockname()[1],
            "path_socket": str(folder / "s"),
            "abstract_socket": f"fleet-probe-{marker}",
            "pid": victim.pid,
        }

        def touched() -> Iterator[str]:
            if list(open_folder.iterdir()):
                yield "write_outside"
            for name, listener in (("tcp", tcp), ("path_socket", path), ("abstract_socket", abstract)):
                listener.setblocking(False)
                with suppress(BlockingIOError):
                    listener.accept()[0].close()
                    yield f"connect_{name}"
            if victim.poll() is not None:
                yield "signal_host"

        yield targets, touched


def _unix(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    return listener


@contextmanager
def _victim(marker: str, uid: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process outside, under the uid of the command itself, whose words and environment hold the marker."""
    words = ["/bin/sh", "-c", "read -r line", marker]
    user = None if os.geteuid() == uid else uid
    with subprocess.Popen(words, stdin=subprocess.PIPE, env={"MARKER": marker}, cwd="/", user=user) as victim:
        try:
            yield victim
        finally:
            victim.kill()


class ProofCache:
    """Proofs that held, by kernel boot, program, uid and tier: each fleet process asks, the machine answers once.

    A file is believed only when this user owns it and nobody else can write or read it.
    """

    def __init__(self, scratch: Path, facts: SystemFacts) -> None:
        self._scratch = scratch
        self._facts = facts

    def known(self, tier: Tier, uid: int) -> bool:
        path = self._path(tier, uid)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            facts = os.fstat(handle)
            owned = (
                facts.st_uid == os.geteuid() and stat.S_IMODE(facts.st_mode) == 0o600 and stat.S_ISREG(facts.st_mode)
            )
            return owned and os.read(handle, 256) == path.name.encode()
        finally:
            os.close(handle)

    def remember(self, tier: Tier, uid: int) -> None:
        path = self._path(tier, uid)
        descriptor, temporary = tempfile.mkstemp(dir=self._scratch)  # mkstemp makes it 0600
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(path.name.encode())
        os.replace(temporary, path)

    def _path(self, tier: Tier, uid: int) -> Path:
        facts = self._facts
        key = (
            facts.boot,
            facts.kernel,
            facts.bwrap,
            facts.bwrap_version,
            facts.landlock_abi,
            uid,
            tier.value,
            _code_digest(),
        )
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        return self._scratch / f"proof-{tier.value}-{digest}"


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Changes with every line of this package, so that a proof never outlives the code that it is about."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
