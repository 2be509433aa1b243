"""Installs fetched wheels into an environment of their own: offline, in the sandbox, then read-only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from fleet.adapters.environments import startup
from fleet.adapters.environments.graft import distributions, graft_pytest
from fleet.adapters.environments.kit import HOST_ENV, Kit, Room, for_pip
from fleet.adapters.environments.takeover import take_over
from fleet.adapters.process import run
from fleet.adapters.slots import give
from fleet.core.errors import TemporaryError
from fleet.core.sandbox import Ending, Limits, SandboxResult, SandboxSpec

Rooms = Callable[[], AbstractContextManager[Room]]

INSTALL = Limits(seconds=900.0)
_RAISED = re.compile(r"^[\w.]*(Error|Exception|Exit|Interrupt)\b.*")
_PTH = "import _fleet_startup; _fleet_startup.extend()\n"
FLAGS = (
    "--no-index",
    "--no-deps",
    "--no-input",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--no-warn-script-location",
)


def make_venv(kit: Kit, venv: Path, gid: int, wheels: Sequence[Path], rooms: Rooms, own: str | None) -> tuple[str, ...]:
    """Makes ``venv`` with ``wheels`` and a pytest. Returns problems; raises TemporaryError."""
    bare_venv(kit, venv)
    problems: list[str] = []
    if wheels:
        asked = venv.parent / "wheels.txt"
        asked.write_text("".join(f"{path}\n" for path in wheels))
        asked.chmod(0o644)
        for path in wheels:
            path.chmod(0o644)
        done = pip_install(kit, venv, ("-r", str(asked)), venv, (venv.parent,), rooms)
        if not done.ok:
            problems.append(f"Installing the dependencies failed: {tail(done)}.")
    site = venv / kit.lib
    problems += graft_pytest(kit, venv, own)
    _write_new(site / "_fleet_startup.py", Path(startup.__file__).read_bytes())
    _write_new(site / "fleet.pth", _PTH.encode())
    take_over(venv, os.geteuid(), gid)
    return tuple(problems)


def bare_venv(kit: Kit, venv: Path) -> None:
    """An empty environment of the fleet's Python, without pip and without the system's packages."""
    run([str(kit.interpreter), "-I", "-m", "venv", "--without-pip", str(venv)], cwd="/", env=HOST_ENV)


def pip_install(
    kit: Kit,
    venv: Path,
    words: Sequence[str],
    writable: Path,
    read_only: Sequence[Path],
    rooms: Rooms,
) -> SandboxResult:
    """Runs pip with the environment's own Python in the sandbox; only ``writable`` can be written.

    Raises TemporaryError for what says nothing about the packages: killed, cancelled, out of disk.
    """
    with rooms() as room:
        workspace = room.folder / "empty"
        workspace.mkdir(mode=0o700)
        give(workspace, room.uid, room.gid)
        give(writable, room.uid, room.gid)
        argv = (str(venv / "bin" / "python"), "-I", str(kit.runner), "install", *FLAGS, *words)
        spec = SandboxSpec(
            argv=argv,
            workspace=workspace,
            read_only=for_pip(kit, *read_only),
            writable=(writable,),
            limits=INSTALL,
        )
        return _checked(room.sandbox.run(spec))


def _checked(done: SandboxResult) -> SandboxResult:
    if done.ending is Ending.EXITED:
        return done
    if done.ending is Ending.CANCELLED or b"No space left on device" in done.stderr:
        raise TemporaryError(f"The installation was ended ({done.ending.value}).", "Try again.")
    return done


def tail(done: SandboxResult) -> str:
    """The most telling line of a failed command, for a problem's sentence."""
    said = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    complained = [line for line in lines if line.startswith("ERROR")]
    text = (raised or complained or lines or ["it said nothing"])[-1]
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return f"{clean[:200]} ({done.ending.value}, status {done.exit_code})"


def installed(kit: Kit, venv: Path) -> dict[str, str]:
    """Versions by canonical name."""
    return {name: found.version for name, found in distributions(venv / kit.lib).items()}


def _write_new(path: Path, data: bytes) -> None:
    # A wheel may have put something here under this name; what it put is removed, never written through.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
