"""Gates on a person's checkout: what is compared with what, what is read, and that its own settings never run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ci_gates.checkout import PARKED, PASSED, RED, USAGE, check, import_checkout
from fleet.core.errors import UsageError
from tests.gates.test_runs import BROKEN, CODE, REPO
from tests.gates.world import World


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for name, text in REPO.items():
        (folder / name).write_text(text)
    (folder / ".gitignore").write_text("ignored\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "base")
    git(folder, "checkout", "-q", "-b", "topic")
    return folder


def commit(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", name)


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize(("text", "code"), [("# sums\n" + CODE, PASSED), (BROKEN, RED)])
def test_a_branch_against_where_it_left_main(world: World, checkout: Path, text: str, code: int) -> None:
    commit(checkout, "calc.py", text)
    lines: list[str] = []
    assert check(checkout, world.runner, lines.append) == code
    assert lines[-1].startswith("PASSED" if code == PASSED else "RED: tests: 1 new: test_calc.py::test_add")
    assert any("test_calc.py::test_add" in line for line in lines) is (code == RED)


@pytest.mark.needs("bwrap")
def test_json_lines_end_with_the_result(world: World, checkout: Path) -> None:
    commit(checkout, "calc.py", BROKEN)
    lines: list[str] = []
    assert check(checkout, world.runner, lines.append, as_json=True) == RED
    *records, result = [json.loads(line) for line in lines]
    assert [one["gate"]["name"] for one in records] == ["policy", "syntax", "lint", "tests"]
    assert result["type"] == "result" and result["v"] == 1 and result["verdict"]["passed"] is False


def test_a_change_that_needs_a_person_is_parked(world: World, checkout: Path) -> None:
    commit(checkout, "conftest.py", "x = 1\n")
    lines: list[str] = []
    assert check(checkout, world.runner, lines.append) == PARKED
    assert lines[-1].startswith("A PERSON MUST DECIDE: policy")


def test_what_cannot_be_checked_is_one_sentence(world: World, checkout: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q")
    for path, base in ((empty, ""), (tmp_path / "nowhere", ""), (fresh, ""), (checkout, ""), (checkout, "no-branch")):
        lines: list[str] = []
        assert check(path, world.runner, lines.append, base=base) == USAGE
        assert len(lines) == 1 and lines[0].startswith("fleet gates: ")


@pytest.mark.invariant("I21")
def test_what_a_repository_says_acts_on_no_terminal(world: World, checkout: Path) -> None:
    git(checkout, "switch", "-q", "main")
    commit(checkout, ".fleet.toml", 'version = 1\n"a\\u001b[31m" = 2\n')
    git(checkout, "switch", "-q", "-c", "other")
    commit(checkout, "core.py", "x = 1\n")
    lines: list[str] = []
    assert check(checkout, world.runner, lines.append) == USAGE
    assert "is not a key" in lines[0] and "\x1b" not in lines[0] and "[31m" in lines[0]


def test_the_worktree_is_read_without_links_and_ignored_files(checkout: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    (checkout / "calc.py").write_text(BROKEN)
    (checkout / "new.txt").write_text("new\n")
    (checkout / "ignored").write_text("x\n")
    (checkout / "link").symlink_to(secret)
    (checkout / "test_calc.py").unlink()
    found = import_checkout(checkout, tmp_path / "store.git", worktree=True)
    files = {entry.path: entry.mode for entry in found.store.files(found.head)}
    assert files == {".gitignore": "100644", "calc.py": "100644", "new.txt": "100644", "link": "120000"}
    assert found.store.read(found.head, "calc.py", 999) == BROKEN.encode()
    assert found.store.read(found.head, "link", 999) == str(secret).encode()
    with pytest.raises(UsageError, match="does not differ"):
        import_checkout(checkout, tmp_path / "other.git")


@pytest.mark.invariant("I11")
def test_settings_hooks_and_filters_of_the_checkout_never_run(checkout: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    script.chmod(0o755)
    commit(checkout, ".gitattributes", "* filter=evil\n")
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "core.pager"):
        git(checkout, "config", key, str(script))
    git(checkout, "config", "core.hooksPath", str(tmp_path))
    git(checkout, "config", "uploadpack.packObjectsHook", str(script))
    (tmp_path / "post-index-change").symlink_to(script)
    canary.unlink(missing_ok=True)
    (checkout / "calc.py").write_text(BROKEN)
    found = import_checkout(checkout, tmp_path / "store.git", worktree=True)
    assert found.store.read(found.head, "calc.py", 999) == BROKEN.encode()
    assert not canary.exists()
    subprocess.run(["git", "-C", str(checkout), "status"], check=False, capture_output=True)
    assert canary.exists()  # the trap itself works
