"""Importing a module does nothing: no file, no output, no socket, no thread, no process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.rules import sources

ROOT = Path(__file__).resolve().parents[2]

# Runs alone: imports the modules one by one and says which of our own frames did something while it was being imported.
# Vendors are left out by looking at the nearest frame outside the standard library; what is left behind counts whole.
PROBE = """
import json, os, sys, sysconfig, threading
root, names = os.path.realpath(sys.argv[1]), json.loads(sys.argv[2])
stdlib, found = sysconfig.get_path("stdlib"), []

def nearest():
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(("<frozen", stdlib + os.sep)) or "site-packages" in file:
            return file, frame.f_lineno
        frame = frame.f_back
    return "", 0

WATCHED = (
    "socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename", "os.fork", "os.exec", "os.system", "os.kill",
    "os.posix_spawn", "os.putenv", "os.chmod", "tempfile.", "sqlite3.connect", "signal.signal", "_thread.start_new",
)
WRITING = os.O_WRONLY | os.O_RDWR

def watch(event, args):
    writes = event == "open" and ((args[1] or "r")[0] in "wax+" or (args[2] or 0) & WRITING)
    if event.startswith(WATCHED) or writes:
        file, line = nearest()
        if file.startswith(root + os.sep) and not file.startswith(sys.prefix + os.sep):
            found.append(f"{os.path.relpath(file, root)}:{line}: {event} {args[:1]!r} while importing {current}")

sys.dont_write_bytecode = True
sys.addaudithook(watch)
for current in names:
    try:
        __import__(current)
    except BaseException as error:
        found.append(f"{current}: {type(error).__name__}: {error}")
if threading.active_count() > 1:
    found.append(f"threads left: {threading.enumerate()}")
print("PROBE", json.dumps(found))
"""


def effects(root: Path, names: list[str], home: Path) -> list[str]:
    """What importing these modules from ``root`` does, one line each."""
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, str(root), json.dumps(names)],
        cwd=home,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    *said, last = done.stdout.splitlines() or [""]
    found = [f"wrote to stdout: {line}" for line in said] + [
        f"wrote to stderr: {line}" for line in done.stderr.splitlines()
    ]
    if not last.startswith("PROBE "):
        return [*found, f"ended early: {last}"]
    found += json.loads(last.removeprefix("PROBE "))
    return found + [f"left {path.relative_to(home)} behind" for path in sorted(home.rglob("*"))]


def modules(root: Path) -> list[str]:
    names = (name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name, _ in sources(root))
    return sorted(names)


def test_importing_every_module_does_nothing(tmp_path: Path) -> None:
    names = modules(ROOT)
    assert {"fleet", "fleet.core.errors", "workers", "supervisor", "ci_gates"} <= set(names)
    assert effects(ROOT, names, tmp_path / "home") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("open('left', 'w').close()", "open"),
        ("import pathlib\npathlib.Path('made').mkdir()", "os.mkdir"),
        ("import os\nos.environ['A'] = 'b'", "os.putenv"),
        ("print('hello')", "wrote to stdout: hello"),
        ("import sys\nsys.stderr.write('oops')", "wrote to stderr: oops"),
        ("import socket\ns = socket.socket()\ns.close()", "socket."),
        ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()", "threads left"),
        ("import subprocess\nsubprocess.run(['true'])", "subprocess.Popen"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_import_with_an_effect_is_found(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "src" / "fleet").mkdir(parents=True)
    (tmp_path / "src" / "fleet" / "__init__.py").write_text(text)
    found = effects(tmp_path / "src", ["fleet"], tmp_path / "home")
    assert any(said in line for line in found), found
