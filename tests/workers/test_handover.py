"""The hand-over, on trees that an agent could have left: real git, real files, hostile contents."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.adapters.git import EMPTY_TREE, BareRepo
from fleet.adapters.slots import Slot
from tests.support.tickets import ticket
from tests.workers.kit import git, make_repo
from workers import handover, litter, tree, workspace

ONE = ticket(title="Tidy up")


@dataclass
class Copy:
    mirror: BareRepo
    base: str
    folder: Path
    scratch: Path

    def compare(self, caps: tree.Caps | None = None) -> handover.Difference:
        return handover.compare(self.mirror, self.base, self.folder, os.geteuid(), caps)

    def hand_over(self, name: str = "change") -> handover.Change:
        return handover.commit(self.mirror, self.base, self.compare(), ONE, self.scratch / f"{name}.bundle")

    def store(self, name: str = "change") -> BareRepo:
        store = BareRepo.init(self.scratch / "store.git")
        store.fetch(self.mirror.path, ("+refs/heads/main:refs/heads/main",))
        store.unbundle(self.scratch / f"{name}.bundle")
        return store

    def written(self) -> set[str]:
        return {file.path for file in self.compare().written}


BASE = {
    "a.py": b"import os\n",
    "crlf.txt": b"one\r\ntwo\r\n",
    ".gitattributes": b"*.txt text eol=lf\n*.py ident\n",
    ".gitignore": b"*.log\nout/\n",
    "sub/.gitignore": b"local-*\n",
    "sub/b.py": b"x = 1\n",
    "kept.log": b"tracked although ignored\n",
    "id.py": b"# $Id$\n",
}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return make_copy(tmp_path, BASE)


def make_copy(folder: Path, files: dict[str, bytes]) -> Copy:
    source = make_repo(folder / "source", files)
    mirror = BareRepo.init(folder / "mirror.git")
    mirror.fetch(source, ("+refs/heads/*:refs/heads/*",))
    place = folder / "slot"
    place.mkdir()
    base = str(mirror.rev("main"))
    made = workspace.make(mirror, Slot(1, os.geteuid(), os.getegid(), place), "main", base, "fleet/1-x")
    return Copy(mirror, base, made.folder, folder)


def test_the_workspace_holds_the_blobs_byte_for_byte(copy: Copy) -> None:
    for name, content in BASE.items():
        assert (copy.folder / name).read_bytes() == content
    assert not copy.compare()
    assert git(copy.folder, "status", "--porcelain") == ""
    assert git(copy.folder, "rev-parse", "--abbrev-ref", "HEAD") == "fleet/1-x"


def test_what_changed_is_what_is_handed_over(copy: Copy) -> None:
    (copy.folder / "a.py").write_bytes(b"\n")
    (copy.folder / "sub" / "b.py").unlink()
    (copy.folder / "id.py").chmod(0o755)
    (copy.folder / "new").mkdir()
    (copy.folder / "new" / "c.py").write_bytes(b"print()\r\n")
    os.symlink("../a.py", copy.folder / "new" / "link")
    change = copy.hand_over()
    rows = {row.path: (row.status, row.new_mode) for row in copy.store().changes(copy.base, change.commit)}
    assert rows == {
        "a.py": ("M", "100644"),
        "sub/b.py": ("D", "000000"),
        "id.py": ("M", "100755"),
        "new/c.py": ("A", "100644"),
        "new/link": ("A", "120000"),
    }
    assert copy.store().read(change.commit, "new/c.py", 100) == b"print()\r\n"
    assert (change.files, change.base_sha) == (5, copy.base)


def test_the_same_tree_gives_the_same_commit(copy: Copy) -> None:
    (copy.folder / "a.py").write_bytes(b"changed\n")
    first = copy.hand_over("first")
    os.utime(copy.folder / "a.py", (1, 1))
    (copy.folder / "b.pyc").write_bytes(b"litter")
    second = copy.hand_over("second")
    assert (first.commit, first.tree) == (second.commit, second.tree)
    (copy.folder / "a.py").write_bytes(b"changed!\n")
    assert copy.hand_over("third").commit != first.commit


def test_one_commit_by_the_fleet_on_base(copy: Copy) -> None:
    (copy.folder / "a.py").write_bytes(b"1\n")
    git(copy.folder, "commit", "--quiet", "--all", "--message", "the agent's own")
    change = copy.hand_over()
    store = copy.store()
    said = store.call("show", "-s", "--format=%an <%ae>%n%cn%n%at%n%P%n%B", change.commit).stdout.decode().splitlines()
    assert said[:4] == ["Fleet <fleet@localhost>", "Fleet", str(int(ONE.accepted_at)), copy.base]
    assert said[4] == "Tidy up (#1)"
    assert "Signed-off-by: Fleet <fleet@localhost>" in said


def test_a_title_cannot_forge_the_message() -> None:
    text = handover.message(ticket(title="x\n\nCo-authored-by: root <r@x>\x1b[31m\u202e" + "y" * 200))
    first, second, *_ = text.splitlines()
    assert len(first) <= 73
    assert second == ""
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\n\n") == 2


def test_litter_and_what_base_ignores_is_left_out_and_listed(copy: Copy) -> None:
    for name in (
        "__pycache__/a.pyc",
        "node_modules/x/y.js",
        "x.egg-info/PKG",
        "run.log",
        "out/o",
        "sub/local-1",
        "b.pyc",
    ):
        path = copy.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (copy.folder / "sub" / "new.py").write_bytes(b"x")
    (copy.folder / "kept.log").write_bytes(b"tracked files always count\n")
    difference = copy.compare()
    assert {file.path for file in difference.written} == {"sub/new.py", "kept.log"}
    assert set(difference.left_out) == {
        "__pycache__/", "node_modules/", "x.egg-info/", "run.log", "out/o", "sub/local-1", "b.pyc",
    }  # fmt: skip


@pytest.mark.invariant("I11")
def test_the_agents_own_ignore_rules_do_not_count(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def left_out_by_the_agent(here: Copy) -> bool:
        return "evil.py" not in here.written()

    (copy.folder / "evil.py").write_bytes(b"x")
    (copy.folder / ".gitignore").write_bytes(b"*\n")
    (copy.folder / "sub" / ".gitignore").write_bytes(b"*\n")
    (copy.folder / ".git" / "info" / "exclude").write_bytes(b"*\n")
    git(copy.folder, "update-index", "--assume-unchanged", "a.py")
    (copy.folder / "a.py").write_bytes(b"hidden?\n")
    assert not left_out_by_the_agent(copy)
    assert "a.py" in copy.written()

    class FromTheTree(litter.BaseIgnores):
        """The mutant: it believes the rules that lie in the agent's tree."""

        def __init__(self, *args: object) -> None:
            self._mirror = copy.mirror
            self._rules = [(".gitignore", (copy.folder / ".gitignore").read_bytes())]

    monkeypatch.setattr(handover, "BaseIgnores", FromTheTree)
    assert left_out_by_the_agent(copy)


@pytest.mark.invariant("I11")
def test_nothing_in_the_agents_git_folder_runs_or_steers(copy: Copy) -> None:
    canary = copy.scratch / "canary"
    shout = f"touch {canary}"
    hooks = copy.folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "post-checkout", "reference-transaction", "post-index-change", "fsmonitor-watchman"):
        (hooks / name).write_text(f"#!/bin/sh\n{shout}\n")
        (hooks / name).chmod(0o755)
    with (copy.folder / ".git" / "config").open("a") as config:
        config.write(
            f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = {shout}\n\tsshCommand = {shout}\n\tpager = {shout}\n"
            f'[filter "x"]\n\tclean = {shout}\n\tsmudge = {shout}\n\tprocess = {shout}\n'
            f'[diff "x"]\n\ttextconv = {shout}\n\tcommand = {shout}\n[alias]\n\tstatus = !{shout}\n'
            f'[url "ext::sh -c {shout}"]\n\tinsteadOf = {copy.mirror.path}\n[include]\n\tpath = {copy.scratch}/more\n'
        )
    (copy.scratch / "more").write_text(f"[core]\n\tfsmonitor = {shout}\n")
    (copy.folder / ".gitattributes").write_bytes(b"* filter=x diff=x merge=x\n")
    (copy.folder / ".git" / "info" / "attributes").write_bytes(b"* filter=x diff=x\n")
    (copy.folder / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = ext::sh -c {shout}\n')
    (copy.folder / "a.py").write_bytes(b"changed\n")
    change = copy.hand_over()
    store = copy.store()
    assert store.changes(copy.base, change.commit)
    assert store.patch(copy.base, change.commit, 1 << 20)
    assert not canary.exists()
    # The control: the same attack does hit a git that runs in the tree.
    subprocess.run(["git", "-C", str(copy.folder), "diff"], check=False, capture_output=True)
    assert canary.exists()


@pytest.mark.invariant("I11")
def test_links_are_taken_as_links_and_never_followed(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = copy.scratch / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"top secret")

    def leaks(here: Copy) -> bool:
        return any(b"top secret" in (file.content or b"") for file in here.compare().written)

    (copy.folder / "a.py").unlink()
    os.symlink(secret / "key", copy.folder / "a.py")
    os.symlink(secret, copy.folder / "folder")
    (copy.folder / "sub" / "b.py").unlink()
    (copy.folder / "sub" / ".gitignore").unlink()
    (copy.folder / "sub").rmdir()
    os.symlink(secret, copy.folder / "sub")
    assert not leaks(copy)
    modes = {file.path: file.mode for file in copy.compare().written}
    assert modes == {"a.py": "120000", "folder": "120000", "sub": "120000"}
    # The mutant: a walk that follows links.
    real = os.stat
    monkeypatch.setattr(tree, "_FILE", os.O_RDONLY)
    monkeypatch.setattr(os, "stat", lambda name, **kw: real(name, **{**kw, "follow_symlinks": True}))
    monkeypatch.setattr(tree, "_DIRECTORY", os.O_RDONLY | os.O_DIRECTORY)
    assert leaks(copy)


def test_fifos_sockets_and_strange_names(copy: Copy) -> None:
    os.mkfifo(copy.folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(copy.folder / "socket"))
    names = [
        b"\xff\xfe",
        b"new\nline",
        b'quote"back\\slash',
        b"tab\there",
        "ünï".encode(),
        b" space ",
        b"-rf",
        b":(top)x",
        b"a" * 255,
    ]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(copy.folder), name))).write_bytes(b"x")
    change = copy.hand_over()
    found = {os.fsencode(row.path) for row in copy.store().changes(copy.base, change.commit)}
    assert found == set(names)


def test_binary_and_empty_files(copy: Copy) -> None:
    content = bytes(range(256)) * 100 + b"\ndone\nblob\ncommit refs/heads/main\n"
    (copy.folder / "data.bin").write_bytes(content)
    (copy.folder / "empty").write_bytes(b"")
    change = copy.hand_over()
    store = copy.store()
    assert store.read(change.commit, "data.bin", 1 << 20) == content
    assert store.read(change.commit, "empty", 10) == b""
    assert store.rev("refs/heads/main") == copy.base


def make_deep(folder: Path) -> None:
    deep = folder / "/".join("d" * 12)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: (folder / "big").write_bytes(b"x" * 2000), "big has 2000 bytes"),
        (lambda folder: [(folder / f"f{n}").write_bytes(b"x" * 900) for n in range(9)], "bytes differ"),
        (lambda folder: [(folder / f"e{n}").write_bytes(b"") for n in range(60)], "more than 50 files"),
        (make_deep, "folders deep"),
    ],
    ids=["one file", "all files", "how many", "how deep"],
)
def test_what_is_too_much_is_refused(copy: Copy, break_it: Callable[[Path], object], says: str) -> None:
    break_it(copy.folder)
    with pytest.raises(tree.TreeRefused, match=says):
        copy.compare(tree.Caps(file_bytes=1000, changed_bytes=5000, entries=50, depth=10))
    assert copy.compare()


@pytest.mark.parametrize("name", [".git", ".GIT", ".git.", "git~1", ".gi\u200ct", "sub/.git"])
def test_a_git_folder_in_any_spelling_is_never_handed_over(copy: Copy, name: str) -> None:
    place = copy.folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "payload").write_bytes(b"x")
    assert not [path for path in copy.written() if "payload" in path]


def test_a_submodule_of_base_stays_what_it_is(tmp_path: Path) -> None:
    source = make_repo(tmp_path / "source", {"a": b"1"})
    git(source, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    git(source, "commit", "--quiet", "--message", "with a module")
    mirror = BareRepo.init(tmp_path / "mirror.git")
    mirror.fetch(source, ("+refs/heads/*:refs/heads/*",))
    place = tmp_path / "slot"
    place.mkdir()
    base = str(mirror.rev("main"))
    made = workspace.make(mirror, Slot(1, os.geteuid(), os.getegid(), place), "main", base, "fleet/1-x")
    here = Copy(mirror, base, made.folder, tmp_path)
    (made.folder / "module").mkdir(exist_ok=True)
    (made.folder / "module" / "x").write_bytes(b"x")
    (made.folder / "a").write_bytes(b"2")
    change = here.hand_over()
    assert [row.path for row in here.store().changes(base, change.commit)] == ["a"]


def test_a_file_may_become_a_folder_and_the_other_way_round(copy: Copy) -> None:
    (copy.folder / "a.py").unlink()
    (copy.folder / "a.py").mkdir()
    (copy.folder / "a.py" / "in.py").write_bytes(b"1")
    for name in ("b.py", ".gitignore"):
        (copy.folder / "sub" / name).unlink()
    (copy.folder / "sub").rmdir()
    (copy.folder / "sub").write_bytes(b"now a file")
    change = copy.hand_over()
    names = {entry.path for entry in copy.store().files(change.commit)}
    assert {"a.py/in.py", "sub"} <= names
    assert not {"a.py", "sub/b.py"} & names


def test_everything_may_be_deleted(copy: Copy) -> None:
    for entry in copy.mirror.files(copy.base):
        (copy.folder / entry.path).unlink()
    change = copy.hand_over()
    assert change.tree == EMPTY_TREE


def test_permissions_that_an_agent_took_away_do_not_hide_anything(copy: Copy) -> None:
    (copy.folder / "sub" / "b.py").write_bytes(b"changed\n")
    (copy.folder / "sub" / "b.py").chmod(0)
    (copy.folder / "sub").chmod(0)
    assert "sub/b.py" in copy.written()


@pytest.mark.root("a file of another user")
def test_a_file_of_another_user_is_refused(copy: Copy) -> None:
    (copy.folder / "planted").write_bytes(b"x")
    os.chown(copy.folder / "planted", 12345, 12345)
    with pytest.raises(tree.TreeRefused, match="another user"):
        copy.compare()


def test_a_file_that_grows_while_it_is_read_is_refused(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    target = copy.folder / "a.py"
    real = tree._read

    def racing(descriptor: int, most: int) -> bytes:
        if os.path.samestat(os.fstat(descriptor), os.stat(target)):
            target.write_bytes(b"longer than before, and later\n")
        return real(descriptor, most)

    monkeypatch.setattr(tree, "_read", racing)
    with pytest.raises(tree.TreeRefused, match="changed while it was read"):
        copy.compare()
