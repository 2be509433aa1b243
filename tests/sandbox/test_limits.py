"""Limits and endings: bombs, floods, silence, time, and what the result says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.sandbox.meter import Meter, written_since
from fleet.core.errors import InternalError
from fleet.core.sandbox import MIB, Ending
from tests.sandbox.conftest import SMALL, Box, command_uid
from tests.support.wait import eventually

MEMORY_BY_MANY = """
import os, sys, time
for _ in range(6):
    if os.fork() == 0:
        held = bytearray(60 << 20)
        time.sleep(60)
time.sleep(60)
"""
MEMORY_BY_ONE = "x = bytearray(1 << 20)\nheld = []\nwhile True: held.append(bytearray(8 << 20))"
FORK_BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
MANY_FILES = """
import os
for number in range(10**6):
    with open(f"{number}", "wb") as handle: handle.write(bytes(1 << 20))
"""
ONE_FILE = "with open('big', 'wb') as handle:\n    while True: handle.write(bytes(1 << 20))"
EMPTY_FILES = "import os\nfor number in range(10**7): os.close(os.open(f'f{number}', os.O_CREAT | os.O_WRONLY))"
UNLINKED = """
import os, time
held = []
for number in range(12):
    held.append(open("gone", "wb", buffering=0)); os.unlink("gone")
    for _ in range(8): held[-1].write(bytes(1 << 20))
time.sleep(60)
"""
MEMORY_FILES = """
import os, time
held = [os.memfd_create("m") for _ in range(12)]
for one in held:
    for _ in range(8): os.write(one, bytes(1 << 20))
time.sleep(60)
"""
DEEP = """
import os, time
for _ in range(1000): os.mkdir("d"); os.chdir("d")
time.sleep(60)
"""


@pytest.mark.invariant("I9")
@pytest.mark.parametrize(
    ("script", "ending"),
    [
        (MEMORY_BY_MANY, Ending.MEMORY),
        (FORK_BOMB, Ending.PROCESSES),
        (MANY_FILES, Ending.DISK),
        (EMPTY_FILES, Ending.DISK),
        (UNLINKED, Ending.DISK),
        (MEMORY_FILES, Ending.DISK),
        (DEEP, Ending.DISK),
        ("while True: print('x' * 4096)", Ending.OUTPUT),
        ("import sys\nwhile True: sys.stderr.write('x' * 4096)", Ending.OUTPUT),
    ],
    ids=["memory", "forks", "files", "empty", "unlinked", "memfd", "deep", "output", "errors"],
)
def test_bomb_ends_by_its_limit(box: Box, script: str, ending: Ending) -> None:
    result = box.py(script)
    assert result.ending is ending, result
    assert not result.ok


def test_one_process_cannot_hold_more_than_the_kernel_gives(box: Box) -> None:
    result = box.py(MEMORY_BY_ONE)
    assert result.ending is Ending.MEMORY or b"MemoryError" in result.stderr


def test_one_file_cannot_grow_past_the_cap(box: Box) -> None:
    result = box.py(ONE_FILE)
    assert not result.ok
    assert (box.ground.workspace / "big").stat().st_size <= SMALL.disk_bytes


@pytest.mark.parametrize("folder", ["/dev/shm", "/tmp", "$TMPDIR"])
def test_temporary_folders_cannot_be_filled(box: Box, folder: str) -> None:
    result = box.sh(
        f"i=0; while [ $i -lt 40 ]; do head -c 10485760 /dev/zero > {folder}/f$i || exit 9; i=$((i+1)); done"
    )
    assert not result.ok, "400 MiB went in"


def test_output_is_capped_to_the_byte_and_told_as_it_comes(box: Box) -> None:
    chunks: list[bytes] = []
    result = box.py(
        "while True: print('x' * 4096)", on_output=chunks.append, limits=replace(SMALL, output_bytes=10_000)
    )
    assert result.truncated
    assert len(result.stdout) + len(result.stderr) == 10_000
    assert b"".join(chunks) == result.stdout


def test_silence_ends_at_the_time_limit(box: Box) -> None:
    result = box.sh("trap '' TERM INT HUP; sleep 60", limits=replace(SMALL, seconds=0.3))
    assert result.ending is Ending.TIMED_OUT
    assert result.exit_code == 137


def test_a_stopped_tree_is_ended_too(box: Box) -> None:
    result = box.sh("kill -STOP $$", limits=replace(SMALL, seconds=0.3))
    assert result.ending is Ending.TIMED_OUT


def test_should_stop_cancels(box: Box) -> None:
    answers = iter([False, True])
    result = box.sh("sleep 60", should_stop=lambda: next(answers))
    assert result.ending is Ending.CANCELLED


def test_an_exception_of_the_listener_ends_the_tree_and_passes_through(box: Box) -> None:
    def listener(chunk: bytes) -> None:
        raise ValueError(chunk.decode())

    with pytest.raises(ValueError, match="word"):
        box.sh("echo word; sleep 60", on_output=listener)


def test_result_of_an_ordinary_command(box: Box) -> None:
    result = box.sh("cat; echo err >&2; exit 3", stdin=b"hello\n")
    assert (result.ending, result.exit_code, result.stdout, result.stderr) == (Ending.EXITED, 3, b"hello\n", b"err\n")
    assert not result.ok
    assert not result.truncated


def test_death_by_signal_and_a_missing_program_are_told_apart(box: Box) -> None:
    killed = box.sh("kill -SEGV $$")
    missing = box.run("no-such-program")
    assert (killed.ending, killed.exit_code) == (Ending.SIGNALED, 139)
    assert (missing.ending, missing.exit_code) == (Ending.NOT_FOUND, 127)
    assert (box.ground.workspace / "text").write_text("no program") > 0
    closed = box.run("./text")
    assert (closed.ending, closed.exit_code) == (Ending.NOT_FOUND, 126)


def test_words_that_the_kernel_does_not_take(box: Box) -> None:
    for result in (box.run("echo", "x" * 200_000), box.run("true", env={"BIG": "x" * 200_000})):
        assert (result.ending, result.exit_code) == (Ending.NOT_FOUND, 126)
        assert b"too long" in result.stderr


def test_workspace_environment_path_and_read_only_folders(box: Box) -> None:
    tools = box.ground.area / "toolchain"
    (tools / "hello-tool").write_text("#!/bin/sh\necho tool $WORD\n")
    (tools / "hello-tool").chmod(0o755)
    (box.ground.workspace / "sub").mkdir()
    result = box.sh(
        "pwd; hello-tool; touch /no 2>/dev/null || echo refused; touch $TMPDIR/yes && touch $HOME/yes && echo private",
        cwd="sub",
        env={"WORD": "word"},
        path=(tools,),
        read_only=(tools,),
    )
    inside = box.sandbox.inside(box.ground.workspace) / "sub"
    assert result.stdout.decode().splitlines() == [str(inside), "tool word", "refused", "private"]


def test_what_a_command_writes_belongs_to_its_uid(box: Box) -> None:
    extra = box.ground.area / "outside"
    assert box.sh(f"touch mine {extra}/too", writable=(extra,)).ok
    assert (box.ground.workspace / "mine").stat().st_uid == command_uid()
    assert (extra / "too").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cwd": "../outside"}, "inside the workspace"),
        ({"cwd": "/etc"}, "inside the workspace"),
        ({"read_only": (Path("/no/such/folder"),)}, "/no/such/folder"),
        ({"read_only": (Path("relative"),)}, "absolute"),
        ({"env": {"A": "b\0c"}}, "NUL"),
    ],
)
def test_an_impossible_spec_is_our_own_fault(box: Box, settings: dict[str, object], said: str) -> None:
    with pytest.raises(InternalError, match=said):
        box.sh("true", **settings)


@pytest.mark.root("dropping to another uid")
def test_a_closed_folder_on_the_way_is_named(box: Box) -> None:
    closed = box.ground.area / "closed"
    (closed / "venv").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(InternalError, match=str(closed)):
        box.sh("true", read_only=(closed / "venv",))


def test_odd_entries_of_the_workspace_do_not_disturb_the_meter(box: Box) -> None:
    script = "import os\nos.mkfifo('fifo'); os.symlink('.', 'loop'); os.symlink('/', 'root')\n"
    script += "open(b'\\xff\\xfe name\\n', 'w').close()\n"
    assert box.py(script).ok
    assert 0 < written_since(box.ground.workspace, 0, 10**9) < MIB


def test_the_meter_counts_only_what_was_touched_since(box: Box) -> None:
    old = box.ground.workspace / "old"
    old.write_bytes(bytes(MIB))
    newer = box.ground.workspace / "newer"
    # file times advance by the kernel's tick
    assert eventually(lambda: newer.write_bytes(b"") == 0 and newer.stat().st_ctime_ns > old.stat().st_ctime_ns)
    meter = Meter(replace(SMALL, disk_bytes=MIB // 2), (box.ground.workspace,), SystemClock())
    assert meter._disk_over(()) is False
    assert written_since(box.ground.workspace, old.stat().st_ctime_ns, 10**9) >= MIB


def test_mutant_without_the_meter_many_processes_pass_the_memory_cap(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "check", lambda self, rows: None)
    result = box.py(MEMORY_BY_MANY, limits=replace(SMALL, seconds=1.5))
    assert result.ending is Ending.TIMED_OUT
