"""bin/fleet and its environments: clear refusals, one maker at a time, nothing half-made, nothing owned by others.

Installing is done by a stand-in for uv on PATH, so that no test needs the network.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
SHELL_TOOLS = ("sh", "dirname", "cat", "mkdir", "chmod", "git")
UV = """#!/bin/sh
[ "$1" = venv ] || [ -z "${UV_WAIT:-}" ] || exec 3<"$UV_WAIT"
echo "$*" >>"$UV_LOG"
if [ "$1" = venv ]; then
    for folder; do :; done
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\\necho "$PYTHONPATH|$FLEET_TOOLS|$PYTHONSAFEPATH|$*"\\n' >"$folder/bin/python"
    chmod 700 "$folder/bin/python"
else
    [ -z "${UV_WAIT:-}" ] || cat <&3 >/dev/null
    [ -z "${UV_SAYS:-}" ] || { echo "$UV_SAYS"; exit 1; }
fi
"""


class Machine:
    """A PATH of our own making, a stand-in for uv, and a cache folder."""

    def __init__(self, tmp: Path) -> None:
        self.bin = tmp / "bin"
        self.bin.mkdir()
        self.cache = tmp / "cache"
        self.log = tmp / "uv.log"
        for tool in SHELL_TOOLS:
            (self.bin / tool).symlink_to(self.which(tool))
        (self.bin / "python3").symlink_to(sys.executable)
        self.script("uv", UV)
        self.env = {"PATH": str(self.bin), "HOME": str(tmp), "FLEET_CACHE": str(self.cache), "UV_LOG": str(self.log)}

    @staticmethod
    def which(tool: str) -> Path:
        return next(path for place in ("/usr/bin", "/bin") if (path := Path(place, tool)).exists())

    def script(self, name: str, text: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def fleet(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.finish(self.start(*args, **env))

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        command = [str(ROOT / "bin" / "fleet"), *args]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.env | env, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True
        )

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def installs(self) -> int:
        return self.log.read_text().count("pip install") if self.log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_first_run_makes_both_environments_and_the_second_makes_nothing(machine: Machine) -> None:
    first = machine.fleet("run", "--title", "a b")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("\n") == 1
    assert "Setting up on first use" in first.stderr
    path, tools, safe, args = first.stdout.strip().split("|")
    assert (path, safe, args) == (str(ROOT), "1", "-P -m fleet.cli run --title a b")
    assert Path(tools, "bin", "python").exists()
    second = machine.fleet("run", "--title", "a b")
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert machine.installs() == 2


def test_flower_has_its_own_environment_made_when_asked_for(machine: Machine) -> None:
    machine.fleet("up")
    assert machine.fleet("up", "--flower").returncode == 0
    assert [path.name.split("-")[0] for path in sorted(machine.cache.iterdir()) if path.is_dir()] == [
        "env",
        "flower",
        "tools",
    ]


def test_environments_are_readable_by_every_uid_under_any_umask(machine: Machine) -> None:
    old = os.umask(0o077)
    try:
        assert machine.fleet().returncode == 0
    finally:
        os.umask(old)
    for path in (machine.cache, *machine.cache.glob("*/bin"), *machine.cache.glob("*/bin/python")):
        assert path.stat().st_mode & 0o777 == 0o755


def test_no_python(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    done = machine.fleet()
    assert done.returncode == 2
    assert done.stderr == (
        "fleet: Python 3.11 or newer is missing; install it (Debian, Ubuntu: apt install python3 python3-venv).\n"
    )


def test_python_too_old(machine: Machine) -> None:
    machine.script("python3", "#!/bin/sh\nexit 1\n")
    done = machine.fleet()
    assert done.returncode == 2
    assert "python3 is older than Python 3.11; install a newer one" in done.stderr


def test_fleet_python_names_no_program(machine: Machine) -> None:
    done = machine.fleet(FLEET_PYTHON="/nowhere/python")
    assert done.returncode == 2
    assert "FLEET_PYTHON names /nowhere/python, which is no program" in done.stderr


def test_git_missing(machine: Machine) -> None:
    (machine.bin / "git").unlink()
    done = machine.fleet()
    assert done.returncode == 2
    assert "git is missing; install version 2.38 or newer" in done.stderr


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("2.37.9", True),
        ("1.99.0", True),
        ("2.38.0", False),
        ("2.39.5 (Apple Git-154)", False),
        ("3.0", False),
        ("", True),
    ],
)
def test_git_version(machine: Machine, version: str, refused: bool) -> None:
    machine.script("git", f'#!/bin/sh\necho "git version {version}"\n')
    done = machine.fleet()
    assert done.returncode == (2 if refused else 0), done.stderr
    assert ("git 2.38 or newer" in done.stderr) is refused


def test_disk_full_is_one_sentence_and_leaves_nothing(machine: Machine) -> None:
    done = machine.fleet(UV_SAYS="error: No space left on device (os error 28)")
    assert done.returncode == 1
    assert "is full; free about 500 MB there" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in machine.cache.iterdir() if path.is_dir()] == []


def test_no_venv_module_names_the_package(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['ensurepip'] = None\n"
        "import environment, make_environment\n"
        "try: make_environment.make(sys.argv[2], 'core')\n"
        "except environment.SetUpError as error: print(error.exit_code, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(ROOT / "bin"), str(tmp_path / "env")],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("2 ")
    assert "comes without its venv module; install it (Debian, Ubuntu: apt install python3-venv)" in done.stdout
    assert not (tmp_path / "env").exists()


def test_a_cache_that_another_first_run_makes_meanwhile_is_ours(tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "import environment\n"
        "real = os.path.isdir\n"
        "def asked_just_before(folder):\n"
        "    os.path.isdir = real\n"
        "    os.mkdir(folder)\n"
        "    return False\n"
        "os.path.isdir = asked_just_before\n"
        "print(environment.is_ours(sys.argv[2], os.getuid()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(ROOT / "bin"), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr


def test_two_first_runs_install_once(machine: Machine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    writer = os.open(gate, os.O_RDWR)  # as long as it is open, every install waits for its end
    both = [machine.start(UV_WAIT=str(gate)) for _ in range(2)]
    assert eventually(lambda: machine.installs() == 2, timeout=20)  # core and tools, each by one of the two runs
    os.close(writer)
    results = [machine.finish(process) for process in both]
    assert [result.returncode for result in results] == [0, 0], results
    assert results[0].stdout == results[1].stdout
    assert machine.installs() == 2


def test_killed_while_installing_leaves_nothing_that_is_used(machine: Machine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    env = machine.env | {"UV_WAIT": str(gate)}
    command = [sys.executable, "-I", "-S", str(ROOT / "bin" / "environment.py"), "core"]
    maker = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    writer = gate.open("w")  # opens once the install has begun
    maker.send_signal(signal.SIGKILL)
    assert maker.communicate()[0] == b""
    half = [path for path in machine.cache.glob("env-*") if not (path / ".ready").exists()]
    assert len(half) == 1
    # The orphaned install still holds the lock: the next run waits for it, then makes the folder anew.
    following = machine.start()
    writer.close()
    assert machine.finish(following).returncode == 0
    assert (half[0] / ".ready").exists()
    assert machine.installs() == 3


def test_a_python_that_went_away_makes_the_environment_anew(machine: Machine) -> None:
    machine.fleet()
    for python in machine.cache.glob("env-*/bin/python"):
        python.unlink()
        python.symlink_to("/nowhere/python3.11")
    again = machine.fleet()
    assert again.returncode == 0
    assert machine.installs() == 3


def test_a_cache_that_others_may_write_is_refused(machine: Machine) -> None:
    machine.cache.mkdir()
    machine.cache.chmod(0o777)
    done = machine.fleet()
    assert done.returncode == 1
    assert "which is no absolute folder that only uid" in done.stderr
    assert machine.installs() == 0


def test_without_a_home_the_cache_is_below_var_tmp(tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import environment\n"
        "environment.LAST_RESORT = sys.argv[2]; environment.ROOT_CACHE = '/proc/no'\n"
        "print(environment.cache_folder())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(ROOT / "bin"), str(tmp_path)],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / f"ticketfleet-{os.getuid()}")
