"""``fleet chaos`` is told to stop in the middle of its rounds: nothing of it is left, and it says what it saw."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from fleet.adapters.layout import Layout
from fleet.cli.app import INTERRUPTED
from tests.e2e.kit import ORDER, environment
from tests.support.wait import eventually


def environs(mark: str) -> dict[int, dict[str, str]]:
    """The environment of each live process that has ``mark`` in it."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            raw = (folder / "environ").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if mark in raw:
            found[int(folder.name)] = dict(line.partition("=")[::2] for line in raw.split("\0") if "=" in line)
    return found


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_stop_signal_leaves_no_home_no_process_and_no_folder() -> None:
    with tempfile.TemporaryDirectory(prefix="fe", dir="/var/tmp") as home:
        env = environment(Path(home))
        # What this run starts is known by it, wherever it lives.
        env["PYTHONPATH"] = f"{env.get('PYTHONPATH', '')}:{home}"
        words = ("chaos", "--json", "--tickets", "1", "--lanes", "2")
        with subprocess.Popen([*ORDER, *words], env=env, cwd="/", stdout=-1, stderr=-1, text=True) as playing:
            try:
                assert playing.stderr is not None
                assert any(line.startswith("fleet: 1 of ") for line in playing.stderr), "a round was played"
                homes = {one["FLEET_HOME"] for one in environs(f":{home}").values()} - {home}
                folders = [Path(one).parent for one in homes]
                assert len(folders) == 2 and all(folder.is_dir() for folder in folders), "two lanes are at work"
            finally:
                playing.terminate()
                out, errors = playing.communicate(timeout=270)
        assert playing.returncode == INTERRUPTED, errors[-2000:]
        assert eventually(lambda: environs(f":{home}") == {}, timeout=30), "a process is left"
        assert [folder for folder in folders if folder.exists()] == []
        left = [
            place
            for one in homes
            for place in (Layout(Path(one), os.geteuid()).work, Layout(Path(one), os.geteuid()).runtime)
        ]
        assert [place for place in left if place.exists()] == []
        result = json.loads(out.splitlines()[-1])
        assert (result["type"], result["lost"], result["doubled"]) == ("result", 0, 0)
