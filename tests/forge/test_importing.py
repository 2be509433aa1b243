"""Bringing a person's branch into the forge without touching the person's repository."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.ids import SystemIds
from fleet.core.errors import ConflictError, UsageError
from fleet.forge.importing import import_branch
from fleet.forge.store import ForgeStore
from tests.forge.conftest import NAME, Forge, git

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> ForgeStore:
    store = ForgeStore(tmp_path / "forge", SystemClock(), SystemIds())
    store.ensure_repo(NAME)
    return store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "a.txt").write_text("a\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "Fixes #1")
    git(path, "tag", "v1")
    return path


def census(path: Path) -> dict[str, tuple[str, int]]:
    """Every file below ``path`` with its content and time of change."""
    return {
        str(file.relative_to(path)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def head(path: Path, rev: str = "HEAD") -> str:
    return git(path, "rev-parse", rev).strip()


def refs(store: ForgeStore) -> dict[str, str]:
    return store.bare(store.repo(NAME)).refs()


def test_branch_and_nothing_else(store: ForgeStore, source: Path) -> None:
    git(source, "branch", "other")
    (source / "dirty.txt").write_text("not committed\n")
    (source / "a.txt").write_text("changed\n")
    before = census(source)
    assert import_branch(store, NAME, source, "main") == head(source)
    assert import_branch(store, NAME, source, "main") == head(source)
    assert refs(store) == {"refs/heads/main": head(source)}
    assert census(source) == before
    assert list(store.root.glob("import-*")) == []


def test_forward_only(store: ForgeStore, source: Path) -> None:
    import_branch(store, NAME, source, "main")
    git(source, "commit", "-q", "--allow-empty", "-m", "Second")
    second = import_branch(store, NAME, source, "main")
    git(source, "reset", "-q", "--hard", "HEAD~1")
    import_branch(store, NAME, source, "main")
    assert refs(store)["refs/heads/main"] == second, "an older state takes nothing back"
    git(source, "commit", "-q", "--amend", "-m", "Rewritten")
    with pytest.raises(ConflictError, match="has commits in the forge that your repository lacks"):
        import_branch(store, NAME, source, "main")
    import_branch(store, NAME, source, "main", force=True)
    assert refs(store)["refs/heads/main"] == head(source)


def test_worktree_detached_and_head(store: ForgeStore, source: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git(source, "worktree", "add", "-q", "-b", "feature", str(linked))
    git(linked, "commit", "-q", "--allow-empty", "-m", "In the worktree")
    assert import_branch(store, NAME, linked, "HEAD") == head(linked)
    git(linked, "checkout", "-q", "--detach", "v1")
    assert import_branch(store, NAME, linked, "HEAD") == head(source)
    assert refs(store) == {"refs/heads/feature": head(source, "feature"), "refs/heads/main": head(source)}


def test_from_a_subfolder(store: ForgeStore, source: Path) -> None:
    (source / "sub").mkdir()
    assert import_branch(store, NAME, source / "sub", "main") == head(source)


def test_closes_no_issue(forge: Forge, source: Path) -> None:
    """The history of an upstream project says ``Fixes #1`` of its own issues."""
    issue = forge.repo().create_issue("Ours")
    import_branch(forge.store, NAME, source, "main")
    git(source, "commit", "-q", "--allow-empty", "-m", "Fixes #1 again")
    import_branch(forge.store, NAME, source, "main")
    assert issue.number == 1 and forge.repo().get_issue(1).state == "open"


def test_what_cannot_be_used(store: ForgeStore, source: Path, tmp_path: Path) -> None:
    git(source, "commit", "-q", "--allow-empty", "-m", "Second")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{source}", "shallow")
    (tmp_path / "plain").mkdir()
    git(tmp_path, "init", "-q", "empty")
    cases = {
        tmp_path / "none": "not a folder",
        tmp_path / "plain": "is not a git repository",
        tmp_path / "empty": "has no commit yet",
        tmp_path / "shallow": "is a shallow clone",
    }
    for path, words in cases.items():
        with pytest.raises(UsageError, match=words):
            import_branch(store, NAME, path, "main")
    for branch in ("nope", "main~1", "-h", "v1", "../x"):
        with pytest.raises(UsageError, match="has no branch"):
            import_branch(store, NAME, source, branch)
    assert refs(store) == {}


def test_hostile_settings_do_not_run(store: ForgeStore, source: Path, tmp_path: Path) -> None:
    """Reading the repository runs nothing that its settings name."""
    proof = tmp_path / "ran"
    for name in ("post-checkout", "reference-transaction", "pre-push"):
        (source / ".git/hooks" / name).write_text(f"#!/bin/sh\ntouch {proof}\n")
        (source / ".git/hooks" / name).chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.sshCommand",
        "uploadpack.packObjectsHook",
        "core.pager",
        "core.alternateRefsCommand",
    ):
        git(source, "config", key, f"touch {proof};")
    assert import_branch(store, NAME, source, "main") == git(source, "rev-parse", "refs/heads/main").strip()
    assert not proof.exists()


@pytest.mark.root("a repository of another uid")
def test_repository_of_another_uid(store: ForgeStore, source: Path) -> None:
    commit = head(source)
    subprocess.run(["chown", "-R", "4242:4242", str(source)], check=True)
    assert import_branch(store, NAME, source, "main") == commit


@pytest.mark.root("becoming an ordinary user")
def test_as_an_ordinary_user_with_a_repository_of_root(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 4242, 4242)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    code = (
        "import sys; from pathlib import Path\n"
        "from fleet.adapters.clock import SystemClock; from fleet.adapters.ids import SystemIds\n"
        "from fleet.forge.store import ForgeStore; from fleet.forge.importing import import_branch\n"
        f"store = ForgeStore(Path({str(home)!r}) / 'forge', SystemClock(), SystemIds())\n"
        f"store.ensure_repo({NAME!r}); print(import_branch(store, {NAME!r}, Path({str(source)!r}), 'main'))\n"
    )
    argv = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", sys.executable, "-B", "-c", code]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == head(source), done.stderr


@pytest.mark.root("a folder of another uid")
def test_a_forge_of_another_user(tmp_path: Path) -> None:
    root = tmp_path / "forge"
    root.mkdir()
    os.chown(root, 4242, 4242)
    with pytest.raises(UsageError, match="belongs to another user"):
        ForgeStore(root, SystemClock(), SystemIds())
