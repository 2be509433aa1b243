"""The janitor ends what two kill -9 left of a command, and nothing else (I10)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fleet.adapters.sandbox import procfs, scratch
from tests.support.wait import eventually

SLEEP = ("sleep", "300")


def _started(env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(SLEEP, env=env, start_new_session=True)


@pytest.mark.invariant("I10")
def test_a_daemon_of_a_dead_creator_is_ended_and_its_folder_removed(tmp_path: Path) -> None:
    dead = tmp_path / "tmp-dead"
    dead.mkdir()
    left = _started({"TMPDIR": str(dead / "t")})
    other = _started({"TMPDIR": str(tmp_path / "tmp-deader")})  # a longer name is another folder
    try:
        assert scratch.sweep(tmp_path) == [dead]
        assert eventually(lambda: left.poll() is not None)
        assert other.poll() is None and not dead.exists()
    finally:
        for one in (left, other):
            one.kill()
            one.wait()


@pytest.mark.invariant("I10")
def test_a_living_creator_keeps_its_commands(tmp_path: Path) -> None:
    with scratch.private_folder(tmp_path, "tmp-") as folder:
        running = _started({"TMPDIR": str(folder)})
        try:
            assert scratch.sweep(tmp_path) == []
            assert running.poll() is None
        finally:
            running.kill()
            running.wait()


@pytest.mark.invariant("I10")
def test_without_the_ending_of_processes_the_daemon_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: the first test's question is answered the other way."""
    monkeypatch.setattr(scratch, "end_users", lambda folder: None)
    dead = tmp_path / "tmp-dead"
    dead.mkdir()
    left = _started({"TMPDIR": os.fspath(dead)})
    try:
        scratch.sweep(tmp_path)
        assert not eventually(lambda: left.poll() is not None, timeout=0.3)
    finally:
        left.kill()
        left.wait()


def _missed(rounds: int) -> int:
    """How many of ``rounds`` processes had no environment when they were looked at right after their start."""
    missed = 0
    for _ in range(rounds):
        with _started({"MARK": "seen"}) as one:
            row = procfs.row(one.pid)
            missed += row is None or b"MARK=seen" not in procfs.environment(row)
            one.kill()
    return missed


@pytest.mark.invariant("I10")
def test_a_process_in_the_midst_of_an_exec_is_waited_for() -> None:
    assert _missed(600) == 0


@pytest.mark.invariant("I10")
def test_a_process_in_the_midst_of_an_exec_is_missed_by_who_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant. The moment is short, so many are looked at until one is caught in it."""
    monkeypatch.setattr(procfs, "_EXEC_READS", 1)
    assert any(_missed(1) for _ in range(20_000))
