"""The search for secrets finds one in each form and place; a search that finds nothing would prove nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.adapters.redaction import Redactor
from tests.support import canary
from tests.support.canary import Scanner, planted, written

SECRET = "sk-ant-api03-Canary/7+q_Zr9~3-fKx8"


def test_a_planted_secret_is_found_in_every_form_and_place(tmp_path: Path) -> None:
    places = planted(tmp_path, SECRET)
    assert len(places) >= 22
    for name, folder in places.items():
        scanner = Scanner({"model key": SECRET})
        scanner.tree("planted", folder)
        assert scanner.found, name
        with pytest.raises(AssertionError, match="model key"):
            scanner.check()


def test_what_holds_no_secret_is_clean(tmp_path: Path) -> None:
    planted(tmp_path, "quite-another-secret-0123456789")
    scanner = Scanner({"model key": SECRET})
    scanner.tree("planted", tmp_path)
    scanner.check("planted: files", "planted: rows", "planted: git objects", "planted: bundles", "planted: links")
    with pytest.raises(AssertionError, match="nothing was looked at"):
        scanner.check("planted: prompts")


@pytest.mark.parametrize("how", ["environ", "cmdline"])
def test_a_process_that_was_given_a_secret_is_found(how: str) -> None:
    argv = [sys.executable, "-c", "print(flush=True); input()", *([SECRET] if how == "cmdline" else [])]
    env = {**os.environ, **({"KEY": SECRET} if how == "environ" else {})}
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()  # before its exec it has neither
        scanner = Scanner({"model key": SECRET})
        scanner.processes([process.pid])
        process.communicate(b"\n")
    assert {leak.where for leak in scanner.found} == {f"/proc/{process.pid}/{how}"}


@pytest.mark.parametrize("form", sorted(written(SECRET)))
def test_a_search_without_this_form_would_miss_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    full = written(SECRET)
    (tmp_path / "log.txt").write_bytes(b"2026 begin " + full[form] + b" end\n")
    less = {name: needle for name, needle in full.items() if needle != full[form]}
    monkeypatch.setattr(canary, "written", lambda secret: less)
    scanner = Scanner({"model key": SECRET})
    scanner.tree("planted", tmp_path)
    assert scanner.found == []


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("form", ["plain", "reversed", "hex", "url", "base64 at 0", "base64 at 1", "base64 at 2"])
def test_a_log_never_shows_a_registered_secret(form: str) -> None:
    redactor = Redactor()
    redactor.register(SECRET)
    line = b"the provider said: " + written(SECRET)[form] + b"!"
    scanner = Scanner({"model key": SECRET})
    scanner.text("log", "log", redactor.clean(line.decode()))
    scanner.check("log")
    # Without the redaction it is there.
    scanner.bytes("log", "log", line)
    assert scanner.found
