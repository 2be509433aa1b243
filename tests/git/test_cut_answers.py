"""A forge whose answers are cut off: git may call that a success, the mirror does not (I19)."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.git import BareRepo, HttpToken
from fleet.adapters.layout import Layout
from fleet.adapters.mirror import Mirrors
from fleet.core.errors import TemporaryError
from tests.realdata.projects import git
from tests.support.mutants import Mutant


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "a").write_text("1\n")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "first")
    return path


@pytest.fixture
def layout() -> Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="fm-", dir="/var/tmp") as home:
        made = Layout(Path(home), os.geteuid() or 1)
        made.mirrors.mkdir(parents=True)
        yield made


@pytest.fixture
def cut_off() -> Iterator[str]:
    """The address of a server whose every answer ends in the middle of its head."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                with line:
                    line.recv(1 << 16)
                    line.sendall(b"HTTP/1.1 200 OK\r\ndate: Sat, 28 N")

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/owner/name.git"
        listener.shutdown(socket.SHUT_RDWR)


def a_cut_answer_loses_nothing(layout: Layout, source: Path, cut_off: str) -> None:
    at = [str(source)]
    mirrors = Mirrors(layout, lambda _: (at[0], HttpToken("http://127.0.0.1/", "t")))
    mirror = mirrors.fetch("owner/name")
    first = mirror.rev("refs/heads/main")
    at[0] = cut_off
    with pytest.raises(TemporaryError, match="no branch"):
        mirrors.fetch("owner/name")
    assert mirror.rev("refs/heads/main") == first, "what is there stays there"
    at[0] = str(source)
    assert mirrors.fetch("owner/name").rev("refs/heads/main") == first


@pytest.mark.invariant("I19")
def test_a_cut_answer_is_an_outage_and_prunes_nothing(layout: Layout, source: Path, cut_off: str) -> None:
    a_cut_answer_loses_nothing(layout, source, cut_off)


def test_a_mirror_that_believes_an_empty_list_is_noticed(
    layout: Layout, source: Path, cut_off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Mutant("fleet.adapters.mirror:Mirrors.fetch", "(_BRANCHES, _HEAD)", "(_BRANCHES,)").install(monkeypatch)
    with pytest.raises(pytest.fail.Exception):
        a_cut_answer_loses_nothing(layout, source, cut_off)


def test_a_repository_without_its_default_branch_is_mirrored_all_the_same(layout: Layout, source: Path) -> None:
    git(source, "symbolic-ref", "HEAD", "refs/heads/nowhere")
    mirror = Mirrors(layout, lambda _: (str(source), None)).fetch("owner/name")
    assert mirror.rev("refs/heads/main") == git(source, "rev-parse", "main").strip()
    git(source, "branch", "other", "main")
    assert BareRepo(mirror.path).rev("refs/heads/other") is None
    assert Mirrors(layout, lambda _: (str(source), None)).fetch("owner/name").rev("refs/heads/other")


def test_a_repository_without_any_branch_is_not_there_yet(layout: Layout, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q", "-b", "main")
    with pytest.raises(TemporaryError, match="no branch"):
        Mirrors(layout, lambda _: (str(empty), None)).fetch("owner/name")
