"""The fleet's own bare repositories, on real git."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.adapters.git import (
    BareRepo,
    BlobTooLarge,
    GitDenied,
    HttpToken,
    Person,
    PushStatus,
    TreeEntry,
    printable,
)
from fleet.adapters.git_run import clean_environment
from fleet.core.errors import InternalError, TemporaryError
from tests.workers.kit import git, make_repo

ME = Person("Me", "me@example.invalid")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {
        "plain.txt": b"one\r\ntwo\n",
        ".gitattributes": b"*.txt text eol=crlf\n*.bin filter=evil\n",
        "data.bin": bytes(range(256)),
        "odd \n name\xe9.py": b"print(1)\n",
    }
    return make_repo(tmp_path / "source", files)


@pytest.fixture
def repo(tmp_path: Path, source: Path) -> BareRepo:
    made = BareRepo.init(tmp_path / "store.git")
    made.fetch(source, ("+refs/heads/*:refs/heads/*",))
    return made


def child(repo: BareRepo, parent: str, files: dict[str, bytes], text: str = "change") -> str:
    """A commit on ``parent`` with ``files`` written over it."""
    env = {"GIT_INDEX_FILE": str(repo.path / "test-index")}
    repo.call("read-tree", parent, env=env)
    for name, content in files.items():
        blob = repo.call("hash-object", "-w", "--stdin", input=content).stdout.decode().strip()
        repo.call("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", env=env)
    tree = repo.call("write-tree", env=env).stdout.decode().strip()
    return repo.commit_tree(tree, (parent,), text, ME, ME, 5)


def test_names_that_are_there_and_that_are_not(repo: BareRepo, source: Path) -> None:
    head = git(source, "rev-parse", "HEAD")
    assert repo.rev("refs/heads/main") == head
    assert repo.rev("refs/heads/none") is None
    assert repo.refs("refs/heads/") == {"refs/heads/main": head}
    with pytest.raises(InternalError):
        repo.rev("--upload-pack=touch x")


def test_a_file_is_read_whole_or_refused(repo: BareRepo) -> None:
    assert repo.read("main", "plain.txt", 100) == b"one\r\ntwo\n"
    assert repo.read("main", "nothing", 100) is None
    assert repo.read("main", "odd \n name\xe9.py", 100) == b"print(1)\n"
    with pytest.raises(BlobTooLarge):
        repo.read("main", "data.bin", 255)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    made = BareRepo.init(tmp_path / "b.git")
    made.fetch(make_repo(tmp_path / "s", {"d/x": b"1"}), ("refs/heads/main:refs/heads/main",))
    assert made.read("main", "d", 100) is None
    assert made.files("main") == (TreeEntry("d/x", "100644", made.files("main")[0].blob, 1),)


@pytest.mark.invariant("I11")
def test_exported_bytes_equal_blobs_whatever_attributes_say(repo: BareRepo, tmp_path: Path) -> None:
    repo.export("main", tmp_path / "out")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for entry in repo.files("main"):
        assert found[entry.path] == repo.read("main", entry.path, 1000)
    # The mutant: without the attributes of highest rank, the eol rule of the tree rewrites the file.
    (repo.path / "info" / "attributes").unlink()
    mutant = BareRepo(repo.path)
    mutant._plain_attributes = lambda: None  # type: ignore[method-assign]
    mutant.export("main", tmp_path / "mutant")
    assert (tmp_path / "mutant" / "plain.txt").read_bytes() != b"one\r\ntwo\n"


def test_export_wants_an_empty_folder(repo: BareRepo, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(InternalError):
        repo.export("main", tmp_path)


def test_the_same_arguments_make_the_same_commit(repo: BareRepo) -> None:
    tree, main = repo.tree("main"), str(repo.rev("main"))
    shas = {repo.commit_tree(tree, (main,), "text\n\nmore", ME, ME, 12345) for _ in range(3)}
    assert len(shas) == 1
    with pytest.raises(InternalError):
        Person("a <b>", "c")


def test_a_merge_is_clean_or_names_its_conflicts(repo: BareRepo) -> None:
    main = str(repo.rev("main"))
    ours = child(repo, main, {"plain.txt": b"ours\n", "mine": b"1"})
    theirs = child(repo, main, {"plain.txt": b"theirs\n"})
    beside = child(repo, main, {"beside": b"2"})
    clean = repo.merge_tree(ours, beside)
    assert clean.tree is not None
    assert repo.read(clean.tree, "beside", 10) == b"2"
    assert repo.read(clean.tree, "mine", 10) == b"1"
    conflict = repo.merge_tree(ours, theirs)
    assert (conflict.tree, conflict.conflicts) == (None, ("plain.txt",))


def test_a_merge_with_a_chosen_base(repo: BareRepo) -> None:
    main = str(repo.rev("main"))
    first = child(repo, main, {"a": b"1"})
    second = child(repo, first, {"a": b"2"})
    # Seen from ``first``, main took ``a`` away and ``second`` changed it.
    assert repo.merge_tree(main, second, base=first).conflicts == ("a",)
    assert repo.merge_tree(first, second, base=first).tree == repo.tree(second)


def test_changes_tell_renames_modes_and_odd_names(repo: BareRepo, source: Path) -> None:
    before = str(repo.rev("main"))
    git(source, "mv", "odd \n name\xe9.py", "new \t name.py")
    os.chmod(source / "data.bin", 0o755)
    (source / "plain.txt").unlink()
    git(source, "commit", "--quiet", "--all", "--message", "second")
    repo.fetch(source, ("+refs/heads/*:refs/heads/*",))
    rows = {change.path: change for change in repo.changes(before, "main")}
    assert (rows["new \t name.py"].status, rows["new \t name.py"].old_path) == ("R", "odd \n name\xe9.py")
    assert (rows["data.bin"].old_mode, rows["data.bin"].new_mode) == ("100644", "100755")
    assert (rows["plain.txt"].status, rows["plain.txt"].new_mode) == ("D", "000000")
    numbers = {row.path: (row.insertions, row.deletions) for row in repo.numstat(before, "main")}
    assert numbers["plain.txt"] == (0, 2)
    assert repo.count(before, "main") == 1
    assert repo.is_ancestor(before, "main")
    assert not repo.is_ancestor("main", before)


def test_a_patch_is_cut_and_says_so(repo: BareRepo) -> None:
    main = str(repo.rev("main"))
    long = child(repo, main, {"long": b"line\n" * 1000})
    assert "more bytes]" in repo.patch(main, long, 500)
    assert len(repo.patch(main, long, 500)) < 600
    assert "more bytes]" not in repo.patch(main, long, 1 << 20)


def test_a_bundle_carries_a_commit_to_where_its_base_is(repo: BareRepo, tmp_path: Path) -> None:
    main = str(repo.rev("main"))
    sha = child(repo, main, {"new": b"x"})
    repo.update_ref("refs/fleet/change", sha)
    repo.bundle(tmp_path / "c.bundle", "refs/fleet/change", (main,))
    other = BareRepo.init(tmp_path / "other.git")
    other.fetch(repo.path, ("refs/heads/main:refs/heads/main",))
    assert other.rev(sha) is None
    assert other.unbundle(tmp_path / "c.bundle") == {"refs/fleet/change": sha}
    assert other.rev(sha) == sha


@pytest.mark.invariant("I3")
def test_a_push_is_a_compare_and_swap_at_the_remote(repo: BareRepo, tmp_path: Path) -> None:
    remote = BareRepo.init(tmp_path / "remote.git")
    main, ref = str(repo.rev("main")), "refs/heads/fleet/1-x"
    first, second = child(repo, main, {"a": b"1"}), child(repo, main, {"a": b"2"})
    assert repo.push(str(remote.path), first, ref, "").status is PushStatus.OK
    assert repo.push(str(remote.path), second, ref, "").status is PushStatus.STALE
    assert repo.push(str(remote.path), second, ref, main).status is PushStatus.STALE
    assert remote.rev(ref) == first
    # What is there already counts as done, whatever was expected: the answer to the first push may have been lost.
    assert repo.push(str(remote.path), first, ref, "").status is PushStatus.OK
    assert repo.push(str(remote.path), second, ref, first).status is PushStatus.OK
    assert remote.rev(ref) == second


def test_a_hook_at_the_remote_can_refuse(repo: BareRepo, tmp_path: Path) -> None:
    remote = BareRepo.init(tmp_path / "remote.git")
    hook = remote.path / "hooks" / "pre-receive"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    said = repo.push(str(remote.path), str(repo.rev("main")), "refs/heads/x", "")
    assert said.status is PushStatus.REJECTED
    assert "not today" in said.detail


def test_what_is_away_and_what_is_denied_are_told_apart(repo: BareRepo, tmp_path: Path) -> None:
    with pytest.raises(TemporaryError):
        repo.fetch("http://127.0.0.1:9/x.git", ("main",), HttpToken("http://127.0.0.1:9/", "secret"))
    with pytest.raises(GitDenied):
        repo.fetch(tmp_path / "nowhere", ("main",))


@pytest.mark.invariant("I7")
def test_a_token_stands_in_the_environment_alone_and_only_for_its_address() -> None:
    token = HttpToken("https://forge.example/", "s3cret")
    env = clean_environment(token.settings())
    keys = {value for name, value in env.items() if name.startswith("GIT_CONFIG_KEY_")}
    assert "http.https://forge.example/.extraHeader" in keys
    assert "http.extraHeader" not in keys
    assert "s3cret" not in repr(token)


def test_other_peoples_settings_do_not_count(repo: BareRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[core]\n\tfsmonitor = touch {canary}\n\tpager = touch {canary}\n[alias]\n\trev-parse = !false\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert repo.rev("main")
    assert not canary.exists()


def test_blobs_come_in_one_go_and_too_large_ones_are_left_out(repo: BareRepo) -> None:
    by_name = {entry.path: entry.blob for entry in repo.files("main")}
    found = repo.blobs(by_name.values(), limit=100)
    assert found[by_name["plain.txt"]] == b"one\r\ntwo\n"
    assert by_name["data.bin"] not in found
    assert repo.blobs((), limit=1) == {}


def test_names_for_people_hold_no_control_characters() -> None:
    assert printable("a\x1b[31m\udcffé\n") == "a\\x1b[31m\\xffé\\n"
