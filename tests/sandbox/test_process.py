"""Host programs: explicit environment, no shell, killed as a group."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.adapters import process
from fleet.core.errors import InternalError
from tests.sandbox.conftest import census
from tests.support.wait import eventually

ENV = {"PATH": "/usr/bin:/bin"}


def test_the_environment_is_exactly_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "leak")
    done = process.run(["env"], cwd=tmp_path, env={**ENV, "A": "1"})
    assert set(done.stdout.split()) == {b"PATH=/usr/bin:/bin", b"A=1"}


def test_input_output_and_status(tmp_path: Path) -> None:
    done = process.run(["sh", "-c", "cat; pwd >&2; exit 4"], cwd=tmp_path, env=ENV, input=b"in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, b"in", f"{tmp_path}\n".encode())
    with pytest.raises(process.ProgramFailed, match="status 4") as caught:
        process.run(["sh", "-c", "exit 4"], cwd=tmp_path, env=ENV)
    assert caught.value.completed.returncode == 4


def test_no_shell_reads_the_words(tmp_path: Path) -> None:
    done = process.run(["printf", "%s", "$HOME; echo x > made"], cwd=tmp_path, env=ENV)
    assert done.stdout == b"$HOME; echo x > made"
    assert os.listdir(tmp_path) == []


def test_time_ends_the_whole_group(tmp_path: Path) -> None:
    marker = f"group-{os.urandom(6).hex()}"
    with pytest.raises(process.ProgramTimedOut):
        process.run(["sh", "-c", "sleep 300 & sleep 300", marker], cwd=tmp_path, env={**ENV, "M": marker}, timeout=0.2)
    assert eventually(lambda: not census(marker))


def test_a_missing_program_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(process.ProgramMissing, match="no-such-program is not installed"):
        process.run(["no-such-program"], cwd=tmp_path, env=ENV)
    with pytest.raises(InternalError, match="does not exist"):
        process.run(["true"], cwd=tmp_path / "gone", env=ENV)


def test_a_host_process_is_stopped_with_its_children(tmp_path: Path) -> None:
    marker = f"host-{os.urandom(6).hex()}"
    words = ["sh", "-c", "trap '' TERM; echo up; sleep 300", marker]
    host = process.HostProcess(words, cwd=tmp_path, env={**ENV, "M": marker}, log=tmp_path / "log")
    assert eventually(lambda: (tmp_path / "log").read_bytes() == b"up\n")
    assert host.poll() is None
    with pytest.raises(process.ProgramTimedOut):
        host.wait(0.05)
    assert host.stop(grace=0.1) == -9
    assert eventually(lambda: not census(marker))
