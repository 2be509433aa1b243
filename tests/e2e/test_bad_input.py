"""Bad input and bad luck: one clear sentence with what to do, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.kit import CHECKOUT, CODE, FILES, TEST, UNUSED, Fleet, environment, fleet_home, repository, snapshot
from tests.realdata.projects import commit_all, git
from tests.support.wait import eventually


# --- refused before anything begins: exit 2, no ticket ----------------------------------------------------------------
@dataclass(frozen=True)
class Refused:
    """``words`` after `fleet run`; {repo} and {folder} are filled in. ``says``: parts of the one sentence."""

    words: tuple[str, ...]
    says: tuple[str, ...]
    input: str = ""


TITLE = ("--title", "Do it")
AGENT = ("--agent", "command:true")
REFUSED = {
    "no such folder": Refused(("--repo", "{folder}/none", *TITLE, *AGENT), ("is not a folder", "--repo")),
    "not a repository": Refused(("--repo", "{folder}", *TITLE, *AGENT), ("is not a git repository", "git init")),
    "no commit": Refused(("--repo", "{folder}/empty", *TITLE, *AGENT), ("has no commit yet", "Commit")),
    "empty title": Refused(("--repo", "{repo}", "--title", "  ", *AGENT), ("empty",)),
    "empty issue": Refused(("--repo", "{repo}", "--issue", "-", *AGENT), ("empty",), "\n \n"),
    "binary issue": Refused(("--repo", "{repo}", "--issue", "-", *AGENT), ("text",), "a\0b\0"),
    "no issue file": Refused(("--repo", "{repo}", "--issue", "{folder}/none", *AGENT), ("is not a file", "path")),
    "neither title nor issue": Refused(("--repo", "{repo}", *AGENT), ("--title", "--issue")),
    "both title and issue": Refused(("--repo", "{repo}", *TITLE, "--issue", "-", *AGENT), ("exactly one",)),
    "unknown base": Refused(("--repo", "{repo}", "--base", "nowhere", *TITLE, *AGENT), ("nowhere", "branch")),
    "no agent": Refused(("--repo", "{repo}", *TITLE), ("No agent", "--agent")),
    "unknown agent": Refused(("--repo", "{repo}", *TITLE, "--agent", "wizard:x"), ("wizard", "command:")),
    "empty command": Refused(("--repo", "{repo}", *TITLE, "--agent", "command:"), ("command",)),
    "unclosed quote": Refused(("--repo", "{repo}", *TITLE, "--agent", "command:sh -c 'x"), ("quot",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_begins(fleet: Fleet, tmp_path: Path, case: str) -> None:
    repo, asked = repository(tmp_path / "refused"), REFUSED[case]
    git(tmp_path, "init", "-q", "empty")
    before = snapshot(repo, lambda _: False)
    done = fleet("run", *(word.format(repo=repo, folder=tmp_path) for word in asked.words), input=asked.input)
    assert done.code == 2, done
    assert all(part in done.sentence for part in asked.says), done.sentence
    assert done.sentence.startswith("fleet: ") and len(done.sentence) < 400
    assert snapshot(repo, lambda _: False) == before


def test_none_of_them_became_a_ticket(fleet: Fleet) -> None:
    assert fleet("up").code == 0
    assert [row for row in fleet("ls", "--all", "--json").rows if row["issue"].startswith("local/refused")] == []


def test_a_detached_head_asks_for_the_branch(fleet: Fleet, repo: Path) -> None:
    git(repo, "switch", "-q", "--detach")
    done = fleet("run", "--repo", str(repo), *TITLE, *AGENT)
    assert done.code == 2 and "no branch checked out" in done.sentence and "--base" in done.sentence
    assert fleet.ticket(repo, UNUSED, "--base", "main").code == 0


# --- the command is wrong: exit 3 with its words ----------------------------------------------------------------------
ENDED = {
    "not found": ("command:no-such-program --x", "command_failed", "no-such-program"),
    "exits non-zero": ("command:sh -c 'echo it broke >&2; exit 7'", "command_failed", "it broke"),
    "changes nothing": ("command:true", "nothing_changed", "nothing"),
    "killed by a signal": ("command:sh -c 'kill -9 $$'", "command_failed", "kill"),
}


@pytest.mark.parametrize("case", ENDED)
def test_a_command_that_does_not_deliver_ends_refused(fleet: Fleet, tmp_path: Path, case: str) -> None:
    agent, reason, says = ENDED[case]
    done = fleet.ticket(repository(tmp_path / "ended"), agent)
    row = done.result
    assert (done.code, row["state"], row["reason"]) == (3, "rejected", reason)
    assert says in row["detail"].lower(), row["detail"]
    assert row["pull_request"] is None and row["attempts"] == 1


# --- odd repositories -------------------------------------------------------------------------------------------------
def test_a_dirty_tree_goes_on_and_stays_as_it_is(fleet: Fleet, repo: Path) -> None:
    (repo / "small" / "core.py").write_text(CODE + "\n\nHALF = 1\n")
    (repo / "new.txt").write_text("new\n")
    git(repo, "add", "new.txt")
    tree = snapshot(repo, lambda name: name.startswith(".git/") and name != ".git/index")
    done = fleet("run", "--repo", str(repo), "--title", "Remove unused imports", "--agent", UNUSED)
    assert done.code == 0, done.err
    assert "uncommitted" in done.err and "small/core.py" in done.err and "new.txt" in done.err, done.err
    assert snapshot(repo, lambda name: name.startswith(".git/") and name != ".git/index") == tree
    result = git(repo, "diff", "main", "fleet/1-remove-unused-imports")
    assert "HALF" not in result and "new.txt" not in result and "-import os" in result


MEND = "command:sed -i s/teh/the/ notes.txt"


def test_no_gates_at_all_parks_with_what_to_add(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "nothing", {"notes.txt": "teh end\n"})
    done = fleet.ticket(repo, MEND, title="Mend a word")
    assert (done.code, done.result["state"], done.result["reason"]) == (4, "parked", "no_gates"), done.result
    assert "add tests" in done.result["detail"] and ".fleet.toml" in done.result["detail"]
    assert fleet.pulls("local/nothing") == []


def test_no_tests_ends_in_a_draft_that_says_so(fleet: Fleet, tmp_path: Path) -> None:
    files = {"notes.txt": "teh end\n", "one.py": "ONE = 1\n", "pyproject.toml": "[tool.ruff]\nline-length = 100\n"}
    repo = repository(tmp_path / "bare", files)
    done = fleet.ticket(repo, MEND, title="Mend a word")
    assert done.code == 0, done.out[-1500:]
    (pull,) = fleet.pulls("local/bare")
    assert pull["draft"] and "NO TESTS RAN" in pull["title"] + pull["body"], pull["body"]


def test_a_red_baseline_is_named_already_red(fleet: Fleet, tmp_path: Path) -> None:
    broken = TEST + "\n\ndef test_already_broken() -> None:\n    assert double(2) == 5\n"
    repo = repository(
        tmp_path / "red", {**FILES, "tests/test_core.py": broken, "small/late.py": "y = undefined_name\n"}
    )
    done = fleet.ticket(repo)
    assert done.code == 0, done.out[-1500:]
    (pull,) = fleet.pulls("local/red")
    assert {gate["name"]: gate["outcome"] for gate in done.result["gates"]}["tests"] == "already_red"
    assert "already red: 1" in pull["body"], pull["body"]


ODD = {
    b"new\nline.txt": b"a\n",
    b"latin-\xe9.txt": b"b\n",
    b"-dash.txt": b"c\n",
    "ünïcödé-☃.txt".encode(): b"d\n",
    b"n" * 200: b"e\n",
    b"with space and 'quote\".txt": b"f\n",
    b"tab\there": b"g\n",
    b"binary.dat": bytes(range(256)) * 64,
}


ALL_BUT_BINARY = """import os
for name in os.listdir(b"."):
    if os.path.isfile(name) and name not in (b"pyproject.toml", b"binary.dat"):
        open(name, "ab").write(b"more\\n")
"""


def test_binary_and_odd_file_names_travel_unharmed(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "odd", {**FILES, "small/write_on.py": ALL_BUT_BINARY})
    for name, data in ODD.items():
        (repo / os.fsdecode(name)).write_bytes(data)
    commit_all(repo, "Odd names")
    done = fleet.ticket(repo, "command:python3 small/write_on.py", title="Write on")
    assert done.code == 0, done.result
    ref = done.result["pull_request"]["local_ref"]
    for name, data in ODD.items():
        order = [b"git", b"cat-file", b"blob", ref.encode() + b":" + name]
        found = subprocess.run(order, cwd=repo, capture_output=True, check=True).stdout
        assert found == (data if name == b"binary.dat" else data + b"more\n"), name


def test_a_changed_binary_file_waits_for_a_person(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "binary", {**FILES, "binary.dat": bytes(range(256))})
    done = fleet.ticket(repo, "command:sh -c 'echo more >>binary.dat'", title="Write on")
    assert (done.code, done.result["reason"]) == (4, "approval") and "binary.dat" in done.result["detail"]


def test_a_repository_that_went_another_way_is_not_overwritten(fleet: Fleet, repo: Path) -> None:
    assert fleet.ticket(repo).code == 0
    git(repo, "commit", "-q", "--amend", "-m", "Rewritten", "--date", "2024-02-02T00:00:00Z")
    done = fleet("run", "--repo", str(repo), *TITLE, *AGENT)
    assert done.code == 2 and "--reset-base" in done.sentence, done
    assert fleet.ticket(repo, UNUSED, "--reset-base").code == 0


# --- the machine ------------------------------------------------------------------------------------------------------
@pytest.mark.invariant("I9")
def test_no_sandbox_tier_parks_and_a_retry_finishes(repo: Path) -> None:
    with fleet_home(FLEET_SANDBOX_TIERS="[]") as fleet:
        done = fleet.ticket(repo)
        assert (done.code, done.result["state"], done.result["reason"]) == (4, "parked", "no_sandbox"), done.result
        assert done.events("ToolStarted") == [] and done.result["pull_request"] is None
        assert "sandbox" in done.result["detail"].lower()
        shown = fleet("show", done.result["ticket"])
        assert "fleet retry" in shown.out.splitlines()[0], shown.out
        assert fleet("down").code == 0
        del fleet.env["FLEET_SANDBOX_TIERS"]
        assert fleet("up").code == 0
        assert fleet("retry", done.result["ticket"]).code == 0
        assert fleet("show", "-f", "--json", done.result["ticket"]).result["state"] == "in_review"


def test_a_taken_port_is_named(repo: Path) -> None:
    with socket.socket() as taken, fleet_home() as fleet:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = fleet("run", "--repo", str(repo), *TITLE, *AGENT, env={"FLEET_HOME_FORGE_PORT": port})
        assert done.code == 2, done
        assert f"Port {port} is taken" in done.sentence and "FLEET_HOME_FORGE_PORT" in done.sentence
        assert fleet.ticket(repo).code == 0


def test_a_wrong_setting_is_named_with_its_line(repo: Path) -> None:
    with fleet_home() as fleet:
        (fleet.home / "fleet.toml").write_text("[caps]\nticktes = 3\n")
        done = fleet("run", "--repo", str(repo), *TITLE, *AGENT)
        assert done.code == 2 and "fleet.toml, line 2" in done.sentence and "tickets" in done.sentence, done


@pytest.mark.invariant("I1")
def test_redis_killed_in_mid_run(repo: Path) -> None:
    with fleet_home(FLEET_SUPERVISION_LOST_AFTER="3") as fleet:
        slow = "command:sh -c 'sleep 4; ruff check --fix --exit-zero --select F401 .'"
        running = fleet.start("run", "--json", "--repo", str(repo), *TITLE, "--agent", slow)
        assert running.stdout is not None
        next(line for line in running.stdout if '"AgentStarted"' in line)
        (redis,) = (pid for pid, words in fleet.processes().items() if "server.conf" in words)
        os.kill(redis, signal.SIGKILL)
        rest = running.stdout.read()
        assert running.wait(60) == 0, (rest, running.communicate())
        assert json.loads(rest.splitlines()[-1])["state"] == "in_review"
        assert len(fleet.pulls("local/" + repo.name)) == 1
        assert next(pid for pid, words in fleet.processes().items() if "server.conf" in words) != redis


def test_another_version_is_running(repo: Path) -> None:
    with fleet_home() as fleet:
        assert fleet("up").code == 0
        state = fleet.layout.runtime / "host.json"
        right = state.read_text()
        state.write_text(json.dumps({**json.loads(right), "version": "99.0"}))
        done = fleet("run", "--repo", str(repo), *TITLE, *AGENT)
        assert done.code == 2 and "99.0" in done.sentence and "fleet down" in done.sentence, done
        assert fleet.services().keys() >= {"host", "forge", "supervisor"}  # nothing was stopped


AS_ANOTHER = """
import os, sys
import fleet.cli.commands
from fleet.cli.__main__ import main
os.setgroups([]); os.setgid(4242); os.setuid(4242)
sys.argv = ["fleet", *sys.argv[1:]]
main()
"""


def test_a_second_user_on_the_same_home(repo: Path) -> None:
    """As root a real second user comes; an ordinary user turns to a folder of root's."""
    words = ("run", "--repo", str(repo), *TITLE, *AGENT)
    with fleet_home() as fleet:
        if os.geteuid() == 0:
            assert fleet("up").code == 0
            order, home = [sys.executable, "-P", "-c", AS_ANOTHER], fleet.home
            for folder in (repo, *repo.parents[:3]):
                folder.chmod(0o755)
        else:
            order, home = [sys.executable, "-P", "-m", "fleet.cli"], Path("/usr")
        env = {**fleet.env, "FLEET_HOME": str(home)}
        done = subprocess.run(
            [*order, *words], env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2, done
        assert str(home) in done.stderr and "FLEET_HOME" in done.stderr and len(done.stderr.splitlines()) == 1, (
            done.stderr
        )


# --- before the fleet's own code runs: bin/fleet ----------------------------------------------------------------------
def shell(tmp_path: Path, programs: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """`bin/fleet doctor` with ``programs`` in front of the system's, and no environment made yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    env = environment(tmp_path / "home", PATH=f"{folder}:/usr/bin:/bin", FLEET_CACHE=str(tmp_path / "cache"), **more)
    order = [str(CHECKOUT / "bin" / "fleet"), "doctor"]
    return subprocess.run(order, env=env, cwd="/", capture_output=True, text=True, timeout=120, check=False)


def test_git_is_too_old(tmp_path: Path) -> None:
    done = shell(tmp_path, {"git": "echo git version 2.30.2"})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
    assert "git 2.30.2 is too old" in done.stderr and "2.38" in done.stderr


WITHOUT_VENV = """import runpy, sys
sys.modules["venv"] = sys.modules["ensurepip"] = None
sys.argv = [word for word in sys.argv[1:] if word not in ("-I", "-S", "-B")]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_no_venv_module(tmp_path: Path) -> None:
    real = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    (tmp_path / "without.py").write_text(WITHOUT_VENV)
    without = f"exec {real} -I -S -B {tmp_path}/without.py"
    python = f'case "$*" in *environment.py*) {without} "$@" ;; *) exec {real} "$@" ;; esac'
    done = shell(tmp_path, {"python-without-venv": python}, FLEET_PYTHON="python-without-venv")
    assert done.returncode == 2 and "venv" in done.stderr and "Traceback" not in done.stderr, done


# --- the disk ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m,mode=0700", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.invariant("I1")
@pytest.mark.root("a small disk to fill")
def test_a_full_disk(small_disk: Path, repo: Path) -> None:
    """Nothing is accepted that cannot be kept; what was accepted is finished once there is room."""
    with fleet_home(small_disk / "home", FLEET_SUPERVISION_LOST_AFTER="7") as fleet:
        slow = "command:sh -c 'sleep 4; ruff check --fix --exit-zero --select F401 .'"
        done = fleet("run", "--json", "--detach", "--repo", str(repo), *TITLE, "--agent", slow)
        assert done.code == 0, done
        ticket = done.rows[-1]["ticket"]
        filler = small_disk / "filler"
        fill(filler)
        refused = fleet("run", "--repo", str(repo), *TITLE, "--agent", UNUSED)
        assert refused.code == 2 and "MiB are free" in refused.sentence, refused
        host = fleet.services()["host"]
        os.kill(fleet.services()["agents"], signal.SIGKILL)  # the host must outlive it with nowhere to write
        assert not eventually(lambda: fleet.services().get("host") != host, 6.0, 0.2)
        filler.unlink()
        assert fleet("show", "-f", "--json", ticket).result["state"] == "in_review"
        assert fleet.ticket(repo, UNUSED).code == 0


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


@pytest.mark.root("a small disk to fill")
def test_a_disk_that_was_full_from_the_start(small_disk: Path, repo: Path) -> None:
    fill(small_disk / "filler")
    fleet = Fleet(small_disk / "home", environment(small_disk / "home"))
    done = fleet("run", "--repo", str(repo), *TITLE, "--agent", UNUSED)
    assert done.code == 2, done
    assert "MiB are free" in done.sentence and "FLEET_HOME" in done.sentence, done.err
    assert eventually(lambda: not fleet.processes(), 30.0), fleet.processes()
    fleet.remove()
