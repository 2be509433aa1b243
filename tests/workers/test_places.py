"""The folders of an attempt: slots, artifacts, mirrors, locks."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters import fork, launcher, slots
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.clock import SystemClock
from fleet.adapters.launcher import folder_of, holder, leave, sign, take
from fleet.adapters.layout import SLOTS_PER_HOME, Layout
from fleet.adapters.mirror import Mirrors
from fleet.adapters.slots import Slots, remove_tree
from fleet.core.errors import InternalError, TemporaryError
from tests.support.mutants import Mutant
from tests.support.wait import eventually
from tests.workers.kit import git, make_repo

CLOCK = SystemClock()


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    made = Layout(tmp_path / "home", os.geteuid())
    made.make()
    yield made
    remove_tree(made.work)
    shutil.rmtree(made.runtime)


# --- slots ---------------------------------------------------------------------------------------------------------
def test_every_holder_has_a_slot_and_a_user_of_its_own(layout: Layout) -> None:
    one = Slots(layout)
    with one.acquire("a") as first, one.acquire("b") as second:
        assert first.number != second.number
        assert first.folder != second.folder
        assert (first.uid != second.uid) is layout.as_root
        assert list(first.folder.iterdir()) == []
        (first.folder / "x").write_text("mine")
    assert not first.folder.exists()
    with one.acquire("c") as again:
        assert again.number == first.number
        assert list(again.folder.iterdir()) == []


def test_when_all_are_taken_one_may_come_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOTS_PER_HOME", 3)
    one = Slots(layout)
    assert SLOTS_PER_HOME > 3
    with one.acquire("a"), one.acquire("b"):
        with pytest.raises(TemporaryError) as error, one.acquire("c"):
            pass
        assert error.value.retry_after


@pytest.mark.invariant("I10")
def test_a_slot_whose_holder_died_is_free_and_can_be_swept(layout: Layout) -> None:
    def holder_that_dies() -> None:
        with Slots(layout).acquire("dying") as slot:
            (slot.folder / "left").write_text("x")
            os._exit(9)

    os.waitpid(fork.fork(holder_that_dies), 0)
    assert (layout.slots / "01" / "left").exists()
    with Slots(layout).acquire("alive") as slot:
        assert slot.number == 1
        assert Slots(layout).sweep() == ()
    os.waitpid(fork.fork(holder_that_dies), 0)
    assert Slots(layout).sweep() == (1,)
    assert not (layout.slots / "01").exists()


def test_a_tree_of_any_depth_and_mode_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    tree = tmp_path / "tree"
    tree.mkdir()
    os.symlink(outside, tree / "link")
    (tree / "closed").mkdir()
    (tree / "closed" / "file").write_text("x")
    (tree / "closed").chmod(0)
    subprocess.run(
        ["sh", "-c", "i=0; while [ $i -lt 1500 ]; do mkdir dddd; cd dddd; i=$((i+1)); done"], cwd=tree, check=True
    )
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "keep").exists()
    os.symlink(outside, tree)
    remove_tree(tree)
    assert not tree.is_symlink()
    assert (outside / "keep").exists()


# --- artifacts -----------------------------------------------------------------------------------------------------
def test_artifacts_appear_whole_under_their_name(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path / "artifacts")
    assert store.get("tickets/a-1/1/change.json") is None
    assert store.put("tickets/a-1/1/change.json", b"one") == "tickets/a-1/1/change.json"
    store.put("tickets/a-1/1/change.json", b"two")
    assert store.get("tickets/a-1/1/change.json") == b"two"
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    store.put_file("tickets/a-1/1/big", tmp_path / "big")
    place = store.path("tickets/a-1/1/big")
    assert place is not None
    assert place.read_bytes() == b"x" * 100_000
    assert store.path("tickets") is None
    assert store.get("tickets") is None
    names = {path.name for path in (tmp_path / "artifacts" / "tickets" / "a-1" / "1").iterdir()}
    assert names == {"change.json", "big"}


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", ".hidden", "a\0b", "a b", "x" * 200]
)
def test_a_name_cannot_lead_out_of_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(InternalError):
        FolderArtifacts(tmp_path).put(name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store = FolderArtifacts(tmp_path)
    store.put("a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put("a", b"new")
    assert store.get("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# --- locks ---------------------------------------------------------------------------------------------------------
def test_a_lock_is_held_by_one_and_ends_with_its_holder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "demo-1-abc", 2)
    assert folder.name == "demo-1-abc.2"
    lock = take(folder, CLOCK)
    assert lock is not None
    sign(lock, os.getpid())
    assert holder(folder) == os.getpid()
    assert take(folder, CLOCK) is None
    os.close(lock)
    assert holder(folder) is None
    again = take(folder, CLOCK)
    assert again is not None
    leave(folder)
    os.close(again)
    assert not folder.exists()


def left_behind(tmp_path: Path) -> None:
    """The words of a killed guard go at once, the trace that it began goes late, and whoever lives loses nothing."""
    for name in ("killed", "old", "live"):
        lock = take(folder := folder_of(tmp_path, name, 1), CLOCK)
        assert lock is not None
        (folder / "events.spool").write_bytes(b"words")
        if name == "live":
            held = lock
        else:
            os.close(lock)
    for name in ("old", "live"):
        os.utime(folder_of(tmp_path, name, 1) / "lock", (0.0, 0.0))
    launcher.tidy(tmp_path, CLOCK.now() - 60.0)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    assert left == ["killed.1/lock", "live.1/events.spool", "live.1/lock"]
    assert not folder_of(tmp_path, "old", 1).exists()
    os.close(held)


@pytest.mark.invariant("I10")
def test_what_a_killed_guard_wanted_to_say_is_removed(tmp_path: Path) -> None:
    left_behind(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('file.name != "lock"', "False"),
        ("< before", "< 0.0"),
        ("fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)", "pass"),
    ],
    ids=["keeps the words", "keeps the trace for ever", "asks no lock"],
)
def test_a_janitor_of_locks_that_errs_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    Mutant("fleet.adapters.launcher:tidy", old, new).install(monkeypatch)
    with pytest.raises(AssertionError):
        left_behind(tmp_path)


@pytest.mark.parametrize("ticket", ["", "..", "a/b", ".x"])
def test_a_ticket_that_is_no_name_has_no_folder(tmp_path: Path, ticket: str) -> None:
    with pytest.raises(InternalError):
        folder_of(tmp_path, ticket, 1)


# --- mirrors -------------------------------------------------------------------------------------------------------
def test_a_mirror_follows_its_origin_and_can_be_read_by_slots_only(layout: Layout, tmp_path: Path) -> None:
    source = make_repo(tmp_path / "source", {"a": b"1"})
    mirrors = Mirrors(layout, lambda repo: (str(source), None))
    mirror = mirrors.fetch("owner/name")
    first = mirror.rev("main")
    assert first == git(source, "rev-parse", "main")
    (source / "a").write_bytes(b"2")
    git(source, "commit", "--quiet", "--all", "--message", "second")
    git(source, "branch", "other")
    assert mirrors.fetch("owner/name").rev("main") == git(source, "rev-parse", "main")
    assert mirror.rev("refs/heads/other")
    git(source, "branch", "--delete", "other")
    mirrors.fetch("owner/name")
    assert mirror.rev("refs/heads/other") is None
    assert mirror.rev(str(first)) == first
    if not layout.as_root:
        assert stat.S_IMODE(mirror.path.stat().st_mode) == 0o700
        return
    for folder, _, files in os.walk(mirror.path):
        for name in (".", *files):
            facts = os.stat(os.path.join(folder, name))
            assert not stat.S_IMODE(facts.st_mode) & 0o007
            assert facts.st_gid == layout.slot_gid()
            assert facts.st_mode & stat.S_IRGRP


def test_two_fetches_of_one_repository_take_turns(layout: Layout, tmp_path: Path) -> None:
    source = make_repo(tmp_path / "source", {f"f{n}": os.urandom(2000) for n in range(50)})
    mirrors = Mirrors(layout, lambda repo: (str(source), None))

    def fetch() -> None:
        mirrors.fetch("owner/name")

    pids = [fork.fork(fetch) for _ in range(4)]
    assert eventually(lambda: len(pids) == 4)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0, 0]
    assert len(mirrors.fetch("owner/name").files("main")) == 50
