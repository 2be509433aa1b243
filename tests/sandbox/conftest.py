"""A playground per test: scratch, workspace and things outside, all of the uid that commands run as."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.sandbox import build, detect, probe, remove
from fleet.core.sandbox import MIB, Limits, Sandbox, SandboxResult, SandboxSpec, Tier
from tests.sandbox import corpus, corpus_files, corpus_reach

SLOT = 1_000_000 + 10 * os.getpid()  # a uid that nobody else uses, nor another worker of this run
SMALL = Limits(memory_bytes=200 * MIB, processes=40, disk_bytes=50 * MIB, output_bytes=MIB, seconds=20.0)
CORPUS = (corpus, corpus_files, corpus_reach)


def corpus_text() -> str:
    """The corpus as one program that needs nothing but the standard library."""
    lines = [line for part in CORPUS for line in Path(str(part.__file__)).read_text().splitlines()]
    kept = [line for line in lines if not line.startswith(("from __future__", "from tests."))]
    return "\n".join(["from __future__ import annotations", *kept, "main()"])


def slot_uid() -> int | None:
    return SLOT if os.geteuid() == 0 else None


def command_uid() -> int:
    return SLOT if os.geteuid() == 0 else os.geteuid()


def give(path: Path) -> Path:
    """Makes the command's uid the owner."""
    if os.geteuid() == 0:
        os.chown(path, SLOT, SLOT)
    return path


@dataclass
class Ground:
    """``area`` is reachable for the command's uid, unlike pytest's own folders below a closed one."""

    area: Path
    scratch: Path
    workspace: Path
    outside: Path

    def python(self) -> tuple[str, tuple[Path, ...]]:
        found = probe.interpreter(command_uid(), command_uid())
        assert found is not None
        return found


@dataclass
class Box:
    """A sandbox with its playground."""

    sandbox: Sandbox
    ground: Ground

    def run(self, *argv: str, **settings: Any) -> SandboxResult:
        watchers = {name: settings.pop(name) for name in ("on_output", "should_stop") if name in settings}
        spec = SandboxSpec(argv, self.ground.workspace, **({"limits": SMALL} | settings))
        return self.sandbox.run(spec, **watchers)

    def sh(self, script: str, *words: str, **settings: Any) -> SandboxResult:
        return self.run("/bin/sh", "-c", script, "sh", *words, **settings)

    def py(self, script: str, *words: str, **settings: Any) -> SandboxResult:
        program, folders = self.ground.python()
        settings["read_only"] = (*folders, *settings.get("read_only", ()))
        return self.run(program, "-I", "-S", "-c", script, *words, **settings)


@pytest.fixture
def ground() -> Iterator[Ground]:
    with new_ground() as one:
        yield one


@contextmanager
def new_ground() -> Iterator[Ground]:
    area = Path(tempfile.mkdtemp(prefix="fleet-sandbox-test-", dir="/tmp"))
    area.chmod(0o755)
    for name in ("scratch", "workspace", "outside", "toolchain"):
        (area / name).mkdir()
    for name in ("workspace", "outside", "toolchain"):
        give(area / name)
    (area / "scratch").chmod(0o711)
    yield Ground(area, area / "scratch", area / "workspace", area / "outside")
    remove(area)


def tiers() -> list[Any]:
    return [
        pytest.param(Tier.BUBBLEWRAP, id="bubblewrap", marks=pytest.mark.needs("bwrap")),
        pytest.param(Tier.LANDLOCK, id="landlock"),
    ]


@pytest.fixture(params=tiers())
def box(request: pytest.FixtureRequest, ground: Ground) -> Box:
    return open_box(request.param, ground)


def open_box(tier: Tier, ground: Ground) -> Box:
    facts = detect()
    if tier is Tier.LANDLOCK and facts.landlock_abi < 6:
        pytest.skip("the kernel has no Landlock ABI 6 (Linux 6.12)")
    sandbox = build(tier, facts, scratch=ground.scratch, clock=SystemClock(), slot_uid=slot_uid())
    return Box(sandbox, ground)


@pytest.fixture
def targets(ground: Ground) -> Iterator[dict[str, Any]]:
    with new_targets(ground) as one:
        yield one


@contextmanager
def new_targets(ground: Ground) -> Iterator[dict[str, Any]]:
    """What the attacks aim at. Everything belongs to the command's own uid."""
    marker = os.urandom(8).hex()
    secret = ground.outside / "secret"
    secret.write_text(marker)
    secret.chmod(0o600)
    give(secret)
    with ExitStack() as held:
        tcp = held.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for kind, address in (
            (socket.SOCK_STREAM, str(ground.area / "s")),
            (socket.SOCK_DGRAM, str(ground.area / "d")),
            (socket.SOCK_STREAM, f"\0fleet-{marker}"),
        ):
            listener = held.enter_context(socket.socket(socket.AF_UNIX, kind))
            listener.bind(address)
            if kind is socket.SOCK_STREAM:
                listener.listen()
            if address.startswith("/"):
                os.chmod(address, 0o777)
        victim = subprocess.Popen(
            ["/bin/sh", "-c", "read -r line", marker],
            stdin=subprocess.PIPE,
            env={"MARKER": marker},
            user=slot_uid(),
            group=slot_uid(),
            extra_groups=None if slot_uid() is None else [],
        )
        held.enter_context(victim)
        held.callback(victim.kill)
        yield {
            "marker": marker,
            "canary": f"canary-{marker}",
            "secret": str(secret),
            "outside": str(ground.outside),
            "toolchain": str(ground.area / "toolchain"),
            "port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "path_socket": str(ground.area / "s"),
            "path_datagram": str(ground.area / "d"),
            "abstract_socket": f"fleet-{marker}",
            "victim": victim.pid,
            "net_namespace": os.stat("/proc/self/ns/net").st_ino,
        }
        assert victim.poll() is None, "the victim was killed"


def unsandboxed(ground: Ground, name: str, targets: dict[str, Any]) -> str:
    """The control: the same attack by the same uid with nothing in its way."""
    program, _ = ground.python()
    keeper = os.open(targets["secret"], os.O_RDONLY)
    os.set_inheritable(keeper, True)
    try:
        done = subprocess.run(
            [program, "-I", "-S", "-c", corpus_text(), name, json.dumps(targets)],
            cwd=ground.workspace,
            env={"CANARY": targets["canary"]},
            user=slot_uid(),
            group=slot_uid(),
            extra_groups=None if slot_uid() is None else [],
            close_fds=False,
            capture_output=True,
            timeout=20,
            check=False,
        )
    finally:
        os.close(keeper)
    return done.stdout.decode() + done.stderr.decode()


def census(marker: str) -> list[str]:
    """The processes of the machine whose words or environment hold ``marker``."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        text = b""
        for part in ("cmdline", "environ"):
            try:
                text += Path(f"/proc/{name}/{part}").read_bytes()
            except OSError:
                continue
        if marker.encode() in text:
            found.append(name)
    return found
