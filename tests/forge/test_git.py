"""Real git over HTTP: tokens, permissions, large and hostile pushes."""

from __future__ import annotations

import base64
import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from fleet.forge import git_http
from fleet.forge.git_http import GitEndpoint
from tests.forge.conftest import NAME, Forge, git

Branch = Callable[..., str]
WRITER = ("contents:write", "pull_requests:write")


def test_large_push_and_clone(forge: Forge, work: Path, tmp_path: Path) -> None:
    (work / "big.bin").write_bytes(os.urandom(5 * 1024 * 1024))  # above 1 MB git sends chunks
    git(work, "add", ".")
    git(work, "commit", "-qm", "Big")
    git(work, "push", "-q", "origin", "main")
    git(tmp_path, "clone", "-q", forge.url(forge.token()), "copy")
    assert (tmp_path / "copy/big.bin").read_bytes() == (work / "big.bin").read_bytes()
    head = git(work, "rev-parse", "HEAD").strip()
    assert forge.repo().get_branch("main").commit.sha == head
    shallow = git(tmp_path, "clone", "-q", "--depth", "1", "--filter=blob:none", forge.url(forge.token()), "shallow")
    assert "fatal" not in shallow


def test_who_may(forge: Forge, work: Path) -> None:
    forge.store.set_permission(NAME, "reader", "read")
    git(work, "commit", "-q", "--allow-empty", "-m", "More")
    cases = {
        forge.token(scopes=("contents:read",)): "403",
        forge.token("reader"): "403",
        forge.token("stranger"): "not found",
        forge.token(repos=["ann/other"]): "not found",
        "fft_wrong": "Authentication failed",
    }
    for token, words in cases.items():
        assert words in git(work, "push", forge.url(token), "main", check=False)
    assert "main" in git(work, "ls-remote", forge.url(forge.token("reader")))
    assert "fatal" in git(work, "ls-remote", f"{forge.base}/{NAME}.git", check=False)
    answer = requests.get(f"{forge.base}/{NAME}.git/info/refs?service=git-upload-pack", timeout=30)
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Basic")
    extra = ["-c", f"http.{forge.base}/.extraHeader=Authorization: Bearer {forge.token()}"]
    assert "main" in git(work, *extra, "ls-remote", f"{forge.base}/{NAME}.git")


def test_gzip_body_and_bombs(forge: Forge, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = base64.b64encode(f"x:{forge.token()}".encode()).decode()
    head = git(work, "rev-parse", "HEAD").strip()
    want = f"0032want {head}\n00000009done\n".encode()
    headers = {
        "Authorization": f"Basic {token}",
        "Content-Type": "application/x-git-upload-pack-request",
        "Content-Encoding": "gzip",
    }
    url = f"{forge.base}/{NAME}.git/git-upload-pack"
    answer = requests.post(url, data=gzip.compress(want), headers=headers, timeout=30)
    assert answer.status_code == 200 and answer.content.startswith(b"0008NAK\n")
    assert b"PACK" in answer.content
    bomb = gzip.compress(b"0" * 50_000_000)
    pieces = git_http._inflate(zlib.decompressobj(31), bomb)
    assert max(len(piece) for piece in pieces) <= 1 << 20, "a bomb is undone piece by piece"


def test_workflow_files_need_their_scope(forge: Forge, work: Path, branch: Branch) -> None:
    flow = {".github/workflows/ci.yml": "on: push\n"}
    branch("flow", flow, push=False)
    refused = git(work, "push", forge.url(forge.token(scopes=WRITER)), "flow", check=False)
    assert "without the workflows scope" in refused and "rejected" in refused
    assert [one.name for one in forge.repo().get_branches()] == ["main"]
    git(work, "push", "-q", forge.url(forge.token(scopes=(*WRITER, "workflows:write"))), "flow")
    git(work, "checkout", "-q", "flow")
    git(work, "commit", "-q", "--allow-empty", "-m", "On top")
    git(work, "push", "-q", forge.url(forge.token(scopes=WRITER)), "flow:later")  # nothing new touches a workflow
    git(work, "rm", "-q", ".github/workflows/ci.yml")
    git(work, "commit", "-qm", "Remove it")
    assert "rejected" in git(work, "push", forge.url(forge.token(scopes=WRITER)), "flow", check=False)


def test_mutant_without_the_hook_a_workflow_gets_in(
    forge: Forge, work: Path, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_hooks(self: GitEndpoint, access: git_http._Access, service: str, mode: str) -> tuple[str, ...]:
        path = str(forge.store.bare(access.repo).path)
        return forge.store.git.server_argv(service.removeprefix("git-"), mode, path, hooks=False)

    monkeypatch.setattr(GitEndpoint, "_argv", no_hooks)
    branch("flow", {".github/workflows/ci.yml": "on: push\n"}, push=False)
    git(work, "push", "-q", forge.url(forge.token(scopes=WRITER)), "flow")
    assert "flow" in [one.name for one in forge.repo().get_branches()]


def test_hidden_refs_and_default_branch_are_kept(forge: Forge, work: Path, branch: Branch) -> None:
    branch("feature")
    forge.repo().create_pull(base="main", head="feature", title="One")
    for spec in ("feature:refs/pull/1/head", "feature:refs/pull/9/head", ":main"):
        assert "rejected" in git(work, "push", "-f", "origin", spec, check=False)
    assert forge.repo().get_branch("main").name == "main"


def test_nothing_of_the_host_reaches_git(forge: Forge, work: Path, branch: Branch, tmp_path: Path) -> None:
    """A hook or setting left in the bare repository or in a home does not run."""
    bare = forge.store.bare(forge.store.repo(NAME)).path
    (bare / "hooks").mkdir(exist_ok=True)
    proof = tmp_path / "ran"
    for name in ("pre-receive", "post-receive", "update", "reference-transaction"):
        (bare / "hooks" / name).write_text(f"#!/bin/sh\ntouch {proof}\n")
        (bare / "hooks" / name).chmod(0o755)
    (forge.store.root / ".gitconfig").write_text(
        "[receive]\n\tdenyNonFastForwards = true\n[core]\n\tfsmonitor = true\n"
    )
    branch("feature")
    git(work, "push", "-qf", "origin", "main:feature")
    assert not proof.exists()
    env = forge.store.git.env()
    assert set(env) >= {"GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL"} and "SSH_AUTH_SOCK" not in env


def test_too_large_is_refused(forge: Forge, work: Path) -> None:
    answer = requests.post(
        f"{forge.base}/{NAME}.git/git-receive-pack",
        data=b"",
        headers={
            "Authorization": f"token {forge.token()}",
            "Content-Type": "application/x-git-receive-pack-request",
            "Content-Length": str(1 << 40),
        },
        timeout=30,
    )
    assert answer.status_code == 413
