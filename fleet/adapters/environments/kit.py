"""What every environment is made with: the fleet's Python, its locked tools, its pip, and a room to run in."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.process import run
from fleet.core.errors import ParkError
from fleet.core.sandbox import Sandbox
from fleet.core.states import Reason

# Raised by one whenever the same manifest must give another environment than before.
RECIPE = 1
# pip reads these to name the system, and gives up where it may see but not open one (Landlock).
SYSTEM_NAMES = ("/etc/debian_version", "/etc/os-release", "/etc/lsb-release")
HOST_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Room:
    """A sandbox and an empty folder that it may be given; ``uid`` and ``gid`` are those of its commands."""

    sandbox: Sandbox
    folder: Path
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Kit:
    """``prefix``: where the interpreter's own library lies; ``runner``: the file that starts pip in any Python."""

    tools: Path
    interpreter: Path
    prefix: Path
    version: str
    runner: Path
    digest: str

    @property
    def lib(self) -> str:
        """``lib/python3.11/site-packages``, the same in every environment of this Python."""
        return f"lib/python{'.'.join(self.version.split('.')[:2])}/site-packages"

    @property
    def read_only(self) -> tuple[Path, ...]:
        """What every command needs to see besides /usr."""
        system = self.prefix == Path("/usr") or Path("/usr") in self.prefix.parents
        return (self.tools,) if system else (self.tools, self.prefix)


def for_pip(kit: Kit, *more: Path) -> tuple[Path, ...]:
    """What a sandboxed pip has to see: ``more``, the kit, pip itself, and the files that name the system."""
    names = (Path(name) for name in SYSTEM_NAMES if Path(name).exists())
    return tuple(dict.fromkeys((*more, *kit.read_only, kit.runner.parent.parent, *names)))


def kit_of(tools: Path) -> Kit:
    """Looks at the tools' environment. Raises ParkError(config) when it cannot serve."""
    python = tools / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise ParkError(
            Reason.CONFIG.value,
            f"The fleet's tools are not at {tools}, or their Python cannot be run.",
            "Start the fleet with bin/fleet.",
        )
    done = run(
        [str(python), "-I", "-c", "import sys; print(sys.base_prefix, sys.version.split()[0], sep='\\n')"],
        cwd="/",
        env=HOST_ENV,
    )
    prefix, version = done.stdout.decode().splitlines()
    names = sorted(path.name for path in tools.glob("lib/python3.*/site-packages/*.dist-info"))
    digest = hashlib.sha256("\n".join([str(tools), prefix, version, *names]).encode()).hexdigest()
    return Kit(tools, python.resolve(), Path(prefix), version, _runner(tools, prefix), digest)


def _runner(tools: Path, prefix: str) -> Path:
    # uv makes environments without pip: any other pip serves too, since its runner starts in any Python.
    places = [tools, Path(sys.prefix), Path(prefix)]
    for place in places:
        for pattern in ("lib/python3.*/site-packages", "lib/python3*/dist-packages"):
            for found in sorted(place.glob(f"{pattern}/pip/__pip-runner__.py")):
                return found
    raise ParkError(
        Reason.CONFIG.value,
        "No pip was found, so dependencies cannot be fetched.",
        f"Install pip into {tools}, or remove that folder and start bin/fleet again.",
    )
