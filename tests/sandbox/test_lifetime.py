"""After a command nothing of it remains: processes, temporary folders, descriptors (I10)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.sandbox import landlock, launcher, remove, sweep, watch
from fleet.adapters.sandbox.scratch import private_folder
from fleet.core.errors import InternalError
from fleet.core.sandbox import SandboxResult, Tier
from tests.sandbox.conftest import SLOT, SMALL, Box, Ground, census, command_uid, open_box, slot_uid
from tests.support.wait import eventually

DAEMONS = """
import os, signal, sys, time
marker = sys.argv[1]
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
words = ["sh", "-c", "trap '' TERM HUP INT; sleep 300; :", marker]
def sleeper(): os.execve("/bin/sh", words, {"PATH": "/usr/bin:/bin", "MARKER": marker})
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(3): os.close(number)
            for number in range(3): os.open("/dev/null", os.O_RDWR)
            sleeper()
        os._exit(0)
if os.fork() == 0: sleeper()
print("started", flush=True)
"""
STAY = DAEMONS + "time.sleep(300)\n"
PARENT = """
import sys
from pathlib import Path
from fleet.adapters.clock import SystemClock
from fleet.adapters.sandbox import build, detect
from fleet.core.sandbox import Limits, SandboxSpec, Tier
tier, scratch, workspace, slot, marker, python, script, *folders = sys.argv[1:]
box = build(Tier(tier), detect(), scratch=Path(scratch), clock=SystemClock(), slot_uid=int(slot) or None)
spec = SandboxSpec((python, "-I", "-S", "-c", script, marker), Path(workspace), read_only=tuple(map(Path, folders)))
box.run(spec, on_output=lambda chunk: print(chunk.decode(), flush=True))
"""


def _marker() -> str:
    return f"remains-{os.urandom(8).hex()}"


def _descriptors() -> set[tuple[str, str]]:
    """Each open descriptor with what it points to (pipes and sockets carry an inode number of their own)."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own descriptor is gone by now
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def _mounts(box: Box) -> set[str]:
    """The mounts of this process, without those that a test beside this one makes in its own temporary folder."""
    own = str(box.ground.scratch.parent)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if "/pytest-" not in line or own in line}


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("how", ["exit", "timeout", "cancel", "exception"])
def test_daemons_die_with_the_command(box: Box, how: str) -> None:
    marker = _marker()
    before = _descriptors()
    seen: list[bytes] = []

    def listener(chunk: bytes) -> None:
        seen.append(chunk)
        if how == "exception":
            raise KeyError(how)

    if how == "exit":
        assert box.py(DAEMONS, marker).ok
    elif how == "timeout":
        box.py(STAY, marker, limits=replace(SMALL, seconds=0.6), on_output=listener)
    elif how == "cancel":
        box.py(STAY, marker, on_output=listener, should_stop=lambda: bool(seen))
    else:
        with pytest.raises(KeyError):
            box.py(STAY, marker, on_output=listener)
    assert census(marker) == []
    assert os.listdir(box.ground.scratch) == []
    # New ones only: what an earlier test left behind may be collected, and so closed, during this one.
    assert _descriptors() - before == set()


def test_control_daemons_outlive_a_plain_process(ground: Ground) -> None:
    marker = _marker()
    program, _ = ground.python()
    words = [program, "-I", "-S", "-c", DAEMONS, marker]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=20, user=slot_uid())
    survivors = census(marker)
    for pid in survivors:
        os.kill(int(pid), signal.SIGKILL)
    assert len(survivors) >= 4
    assert eventually(lambda: not census(marker))


@pytest.mark.invariant("I10")
def test_ten_kills_leave_nothing(box: Box) -> None:
    marker = _marker()
    mounts = _mounts(box)
    endings = [box.py(STAY, marker, limits=replace(SMALL, seconds=0.15)).ending.value for _ in range(10)]
    assert set(endings) == {"timed_out"}
    assert census(marker) == []
    assert os.listdir(box.ground.scratch) == []
    assert _mounts(box) - mounts == set()
    print(f"rounds 10, killed {len(endings)}, left over 0")


@pytest.mark.invariant("I10")
def test_a_fork_bomb_that_ignores_signals_is_ended(box: Box) -> None:
    marker = _marker()
    bomb = (
        "import os, signal, sys\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"
        "while True:\n    try:\n        if os.fork() == 0: os.setsid()\n    except OSError: pass"
    )
    box.py(bomb, marker, limits=replace(SMALL, seconds=1.0))
    assert census(marker) == []


@pytest.mark.invariant("I10")
def test_kill_9_of_the_fleet_ends_its_commands_and_the_janitor_its_folders(box: Box) -> None:
    marker = _marker()
    ground = box.ground
    python, folders = ground.python()
    where = [str(ground.scratch), str(ground.workspace), str(slot_uid() or 0), marker, python, STAY]
    words = [sys.executable, "-c", PARENT, box.sandbox.tier.value, *where, *map(str, folders)]
    root = Path(landlock.__file__).parents[3]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, env={"PYTHONPATH": str(root)}) as fleet:
        assert fleet.stdout is not None
        assert fleet.stdout.readline() == b"started\n"
        assert eventually(lambda: len(census(marker)) > 4)
        assert sweep(ground.scratch) == []
        fleet.kill()
    assert eventually(lambda: not census(marker))
    eventually(lambda: sweep(ground.scratch) or not os.listdir(ground.scratch))
    assert os.listdir(ground.scratch) == []


def test_mutant_without_the_end_of_the_tree_daemons_survive(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    box = open_box(Tier.LANDLOCK, ground)
    mutant = ground.area / "launcher.py"
    text = Path(launcher.__file__).read_text()
    assert "    _end_all()\n" in text
    mutant.write_text(text.replace("    _end_all()\n", ""))
    monkeypatch.setattr(launcher, "__file__", str(mutant))
    marker = _marker()
    monkeypatch.setattr(watch, "DEATH_SECONDS", 0.5)
    with pytest.raises(InternalError, match="still holds its output"):
        box.py(DAEMONS, marker)
    survivors = census(marker)
    for pid in survivors:
        os.kill(int(pid), signal.SIGKILL)
    assert survivors
    assert eventually(lambda: not census(marker))


def test_commands_side_by_side_do_not_mix(box: Box) -> None:
    results: dict[int, SandboxResult] = {}

    def one(number: int) -> None:
        results[number] = box.sh(f"echo {number}; exit {number}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: (r.exit_code, r.stdout) for number, r in results.items()} == {
        number: (number, f"{number}\n".encode()) for number in range(4)
    }


@pytest.mark.invariant("I11")
def test_modules_of_the_workspace_steer_no_program_of_the_fleet(box: Box) -> None:
    trap = "import os\nopen(os.environ.get('TRAP', '/nowhere'), 'w')\nraise SystemExit(77)\n"
    for name in ("sitecustomize", "usercustomize", "ctypes", "marshal", "resource", "signal"):
        (box.ground.workspace / f"{name}.py").write_text(trap)
    for name in ("bwrap", "prlimit", "python3", "sh"):
        fake = box.ground.workspace / name
        fake.write_text("#!/bin/sh\nexit 77\n")
        fake.chmod(0o755)
    result = box.sh("echo fine", path=(box.sandbox.inside(box.ground.workspace),), env={"PYTHONPATH": "."})
    assert (result.exit_code, result.stdout) == (0, b"fine\n")


@pytest.mark.root("slots with uids of their own")
@pytest.mark.invariant("I10")
def test_one_slot_cannot_touch_the_processes_of_another(box: Box) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "read -r line"], stdin=subprocess.PIPE, user=SLOT + 1) as other:
        result = box.sh(f"kill -9 {other.pid}; kill -9 -1", limits=replace(SMALL, seconds=2))
        assert other.poll() is None
        other.kill()
    assert b"not permitted" in result.stderr or b"No such process" in result.stderr
    assert command_uid() == SLOT


def test_remove_takes_deep_closed_and_odd_trees(ground: Ground) -> None:
    tree = ground.area / "tree"
    tree.mkdir()
    script = (
        "import os\nfor n in range(1500): os.mkdir('d'); os.chdir('d')\n"
        "open(b'\\xff', 'w').close(); os.mkfifo('fifo'); os.symlink('/etc', 'link'); os.chmod('.', 0)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tree, check=True)
    (tree / ".removed-0").mkdir()
    (tree / ".removed-0" / "full").touch()
    (tree / ".removed-1").touch()
    remove(tree)
    assert not tree.exists()
    assert Path("/etc/passwd").exists()


def test_the_janitor_leaves_living_folders_alone(ground: Ground) -> None:
    dead = ground.scratch / "tmp-dead"
    dead.mkdir()
    other = ground.scratch / "proof-bubblewrap"
    other.touch()
    with private_folder(ground.scratch, "tmp-") as living:
        assert sweep(ground.scratch) == [dead]
        assert living.is_dir()
    assert os.listdir(ground.scratch) == [other.name]
