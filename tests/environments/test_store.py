"""Made once, never half-made, pruned by last use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fleet.adapters.environments.store import MARKER, Made, Store
from fleet.adapters.environments.takeover import take_over
from fleet.core.environment import Prepared
from fleet.core.errors import InternalError
from tests.environments.conftest import CHECKOUT, Home
from tests.environments.wheels import wheel
from tests.support.clock import VirtualClock
from tests.support.wait import eventually

KILLED = """
import sys, signal
from pathlib import Path
from fleet.adapters.clock import SystemClock
from fleet.adapters.environments import IndexSettings, PythonEnvironments
from fleet.adapters.layout import Layout
home, uid, tools, wheels, git_dir, commit, flag = sys.argv[1:]
def room():
    Path(flag).write_text("here")
    signal.pause()
env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "PIP_CONFIG_FILE": "/dev/null"}
made = PythonEnvironments(Layout(Path(home), int(uid)), Path(tools), room, IndexSettings(env), SystemClock())
made.prepare(Path(git_dir), commit)
"""


@pytest.mark.needs("bwrap")
def test_two_at_once_build_once(home: Home) -> None:
    wheel(home.wheels, "alpha")
    place = home.commit({"requirements.txt": "alpha\n"})
    found: list[Prepared] = []
    threads = [threading.Thread(target=lambda: found.append(home.environments().prepare(*place))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    assert len(found) == 3 and len({item.digest for item in found}) == 1
    assert home.rooms_opened == 1


@pytest.mark.needs("bwrap")
def test_killed_in_the_middle_nothing_half_made_is_used(home: Home, tmp_path: Path) -> None:
    wheel(home.wheels, "alpha")
    files = {"requirements.txt": "alpha\n"}
    git_dir, commit = home.commit(files)
    flag = tmp_path / "flag"
    words = [home.layout.home, home.layout.uid, home.tools, home.wheels, git_dir, commit, flag]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, words)], cwd=CHECKOUT, env={"PYTHONPATH": str(CHECKOUT)}
    )
    try:
        eventually(lambda: flag.exists() or process.poll() is not None, 60)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (half,) = [path for path in home.layout.environments.iterdir() if not path.name.startswith(".")]
    assert not (half / MARKER).exists()
    store = Store(home.layout.environments, home.clock)
    assert store.find(half.name) is None
    # the mutant: were the marker written first, the half-made one would be used
    (half / MARKER).write_text('{"description": "", "problems": [], "facts": {}}')
    assert store.find(half.name) is not None
    (half / MARKER).unlink()
    prepared = home.prepare(files)
    assert prepared.python.parents[2] == half
    assert home.python(prepared, files, "import alpha; print(alpha.VERSION)") == "1.0"


def made(store: Store, digest: str, size: int) -> Path:
    with store.making(digest) as folder:
        assert folder is not None
        (folder / "data").write_bytes(b"x" * size)
        store.finish(Made(folder, "", ()))
    return store.folder(digest)


def test_prune_takes_the_longest_unused_first(tmp_path: Path) -> None:
    clock = VirtualClock()
    store = Store(tmp_path, clock)
    old, young = made(store, "old", 5000), made(store, "young", 5000)
    store.find("young")
    clock.advance(1000)
    store.find("old")
    clock.advance(1000)
    made(store, "new", 5000)
    (tmp_path / "half").mkdir()
    freed = store.prune(max_bytes=11_000, idle_seconds=500)
    assert freed >= 5000 and old.exists() and not young.exists() and not (tmp_path / "half").exists()
    assert store.prune(max_bytes=0, idle_seconds=500) >= 5000
    assert [path.name for path in tmp_path.iterdir() if path.name != ".locks"] == ["new"], "what was just used stays"


def test_prune_leaves_what_is_being_made(tmp_path: Path) -> None:
    store = Store(tmp_path, VirtualClock())
    with store.making("busy") as folder:
        assert folder is not None
        assert store.prune(max_bytes=0, idle_seconds=0) == 0
        assert folder.exists()


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, VirtualClock())
    with pytest.raises(OSError, match="disk"), store.making("x") as folder:
        assert folder is not None
        raise OSError("disk")
    assert not store.folder("x").exists()


@pytest.mark.invariant("I11")
def test_take_over_follows_no_link_and_refuses_surprises(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o600)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    (tree / "folder").symlink_to(tmp_path)
    (tree / "suid").write_text("")
    (tree / "suid").chmod(0o4777)
    take_over(tree, os.geteuid(), os.getegid())
    assert outside.stat().st_mode & 0o777 == 0o600
    assert (tree / "suid").stat().st_mode & 0o7777 == 0o555
    for bad in ("hard", "fifo"):
        (tmp_path / bad).mkdir()
        if bad == "hard":
            os.link(outside, tmp_path / bad / "x")
        else:
            os.mkfifo(tmp_path / bad / "x")
        with pytest.raises(InternalError, match="special file or hard link"):
            take_over(tmp_path / bad, os.geteuid(), os.getegid())
    assert outside.stat().st_mode & 0o777 == 0o600
