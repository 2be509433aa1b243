"""The result in the person's own repository: one new ref, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.git import BareRepo
from fleet.core.events import Published
from fleet.publisher.local_ref import LocalRefError, write_local_ref
from tests.publisher.world import WHO, World, git

BRANCH = "fleet/1-x"
Snapshot = dict[str, tuple[int, int, int, int, bytes]]


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """A dirty repository: staged, changed, new and ignored files, hooks that would leave a trace, a stash."""
    path = tmp_path / "person"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for name in ("a.py", "b.py", "c.py"):
        (path / name).write_text(f"# {name}\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "Start")
    (path / "c.py").write_text("stashed\n")
    git(path, "stash", "-q")
    (path / "a.py").write_text("changed\n")
    (path / "b.py").write_text("staged\n")
    git(path, "add", "b.py")
    (path / "new.txt").write_text("new\n")
    (path / ".git" / "info" / "exclude").write_text("ignored\n")
    (path / "ignored").write_text("x\n")
    for hook in ("reference-transaction", "post-checkout", "post-merge", "pre-auto-gc", "post-update", "update"):
        script = path / ".git" / "hooks" / hook
        script.write_text(f"#!/bin/sh\necho {hook} >> {tmp_path}/hooked\n")
        script.chmod(0o755)
    git(path, "config", "core.fsmonitor", f"sh -c 'echo fsmonitor >> {tmp_path}/hooked'")
    git(path, "config", "gc.auto", "1")
    (tmp_path / "hooked").unlink(missing_ok=True)
    return path


@pytest.fixture
def store(tmp_path: Path, person: Path) -> BareRepo:
    repo = BareRepo.init(tmp_path / "store.git")
    repo.fetch(person, ("refs/heads/main:refs/heads/main",))
    return repo


@pytest.fixture
def head(store: BareRepo) -> str:
    base = store.rev("refs/heads/main")
    assert base is not None
    tree = store.call("mktree", input=b"").stdout.decode().strip()
    sha = store.commit_tree(tree, [base], "Change", WHO, WHO, 1)
    store.update_ref("refs/fleet/t/1", sha)
    return sha


@pytest.fixture
def write(person: Path, store: BareRepo, head: str) -> Callable[[], str]:
    base = store.rev("refs/heads/main") or ""
    return lambda: write_local_ref(person, store, "refs/fleet/t/1", head, base, BRANCH)


def snapshot(path: Path) -> Snapshot:
    """Everything about every file: inode, mode, owner, time in nanoseconds, content."""
    found: Snapshot = {}
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder) / name
            about = file.lstat()
            content = os.readlink(file).encode() if file.is_symlink() else file.read_bytes()
            found[str(file.relative_to(path))] = (about.st_ino, about.st_mode, about.st_uid, about.st_mtime_ns, content)
    return found


def difference(before: Snapshot, after: Snapshot) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_only_the_ref_and_its_objects_are_new(
    person: Path, head: str, write: Callable[[], str], tmp_path: Path
) -> None:
    before = snapshot(person)
    assert write() == f"refs/heads/{BRANCH}"
    changed = difference(before, snapshot(person))
    allowed = {f".git/refs/heads/{BRANCH}", f".git/logs/refs/heads/{BRANCH}"}
    assert all(name in allowed or name.startswith(".git/objects/pack/") for name in changed), changed
    assert f".git/refs/heads/{BRANCH}" in changed and not changed & before.keys()
    assert not (tmp_path / "hooked").exists()
    assert git(person, "rev-parse", BRANCH) == head
    git(person, "fsck", "--strict")


def test_mutant_a_plain_fetch_is_noticed(person: Path, store: BareRepo, tmp_path: Path) -> None:
    """With the person's own hooks and settings the trace is there: the check above can fail."""
    before = snapshot(person)
    git(person, "fetch", "-q", str(store.path), "refs/heads/main:refs/heads/other")
    assert difference(before, snapshot(person)) - {".git/refs/heads/other", ".git/logs/refs/heads/other"}
    assert (tmp_path / "hooked").exists()


def test_asked_again_it_finds_the_same_ref(person: Path, write: Callable[[], str]) -> None:
    assert write() == write() == f"refs/heads/{BRANCH}"
    assert git(person, "branch", "--list", "fleet/*").count("\n") == 0


def test_another_commit_of_that_name_is_never_overwritten(person: Path, head: str, write: Callable[[], str]) -> None:
    mine = git(person, "rev-parse", "main")
    git(person, "branch", BRANCH, "main")
    git(person, "branch", f"{BRANCH}-2", "main")
    assert write() == f"refs/heads/{BRANCH}-3"
    assert git(person, "rev-parse", BRANCH) == git(person, "rev-parse", f"{BRANCH}-2") == mine
    assert git(person, "rev-parse", f"{BRANCH}-3") == head


def test_a_branch_in_the_way_of_the_folder(person: Path, write: Callable[[], str]) -> None:
    git(person, "branch", "fleet", "main")
    with pytest.raises(LocalRefError, match=r"refs/heads/fleet/1-x could not be written"):
        write()


def test_linked_worktree_and_detached_head(person: Path, tmp_path: Path, store: BareRepo, head: str) -> None:
    git(person, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    base = store.rev("refs/heads/main") or ""
    ref = write_local_ref(tmp_path / "linked", store, "refs/fleet/t/1", head, base, BRANCH)
    assert git(person, "rev-parse", ref) == head


def test_not_a_repository_any_more(person: Path, write: Callable[[], str]) -> None:
    shutil.rmtree(person / ".git")
    with pytest.raises(LocalRefError, match="no longer a git repository"):
        write()


def test_everything_belongs_to_the_owner_of_the_repository(person: Path, write: Callable[[], str]) -> None:
    """As root, too, which could else leave files in there that their owner cannot write."""
    owner = 4242 if os.geteuid() == 0 else os.geteuid()
    for parent in person.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    for folder, names, files in os.walk(person):
        for name in (".", *names, *files):
            os.lchown(Path(folder) / name, owner, -1)
    write()
    owners = {
        Path(folder, name).lstat().st_uid for folder, names, files in os.walk(person) for name in (*names, *files)
    }
    assert owners == {owner}


def test_published_with_the_local_ref_or_with_a_note(world: World, person: Path) -> None:
    world.store.fetch(person, ("refs/heads/main:refs/heads/person",))
    base = world.store.rev("refs/heads/person") or ""
    world.push(base, "person")
    ticket = world.ticket(local_path=str(person), base="person")
    view = world.gated(ticket, head=world.commit(base, {"a.py": ""}), base=base)
    done = world.publisher().publish(view, 1, 1)
    assert isinstance(done, Published) and done.local_ref == f"refs/heads/{ticket.branch}"
    assert git(person, "rev-parse", done.local_ref) == view.head
    gone = replace(view, ticket=replace(ticket, local_path=str(person / "nowhere")))
    again = world.publisher().publish(gone, 1, 1)
    assert isinstance(again, Published) and again.local_ref == "" and again.number == done.number
    raw = world.artifacts.get(f"tickets/{view.id}/evidence.json")
    assert raw is not None and b"nowhere" in raw
