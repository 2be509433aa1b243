"""Brings one branch of a person's repository into the forge, by fetching from the forge's side.

The person's repository is only read: no ref, file, setting or lock in it changes.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from fleet.adapters.process import Completed, run
from fleet.core.errors import ConflictError, UsageError
from fleet.forge import refs
from fleet.forge.bare import BareRepo
from fleet.forge.gitcmd import NOBODY, Git
from fleet.forge.store import ForgeStore

_SECONDS = 1800.0
_HEX = re.compile(r"^[0-9a-f]{40}$")


def import_branch(store: ForgeStore, full_name: str, source_path: Path, branch: str, force: bool = False) -> str:
    """Makes the forge's ``branch`` the commit it has in ``source_path`` and returns that commit's id.

    ``branch`` may also be ``HEAD`` (a detached one too); the forge's branch is then the current branch's name, or
    its default branch. A branch of the forge moves only forward, so that merges made there are never lost; ``force``
    lifts that. Raises UsageError when the repository cannot be used, ConflictError when the branch would go back.
    """
    repo = store.repo(full_name)
    bare = store.bare(repo)
    source = _Source(store, source_path)
    try:
        sha, name = source.find(branch, repo.default_branch)
        source.fetch(bare, sha)
    finally:
        source.close()
    with store.write() as tx:
        _move(bare, f"refs/heads/{name}", sha, force)
        owner = tx.user(repo.owner)
        assert owner is not None
        refs.sync(tx, repo, owner["id"], closing=False)
    return sha


def _move(bare: BareRepo, ref: str, sha: str, force: bool) -> None:
    old = bare.ref(ref)
    if old is None or old == sha or force or bare.is_ancestor(old, sha):
        if old != sha and not bare.update_ref(ref, sha, old or NOBODY):
            raise ConflictError(f"{ref} moved in the forge while it was imported.", "Try again.")
    elif not bare.is_ancestor(sha, old):
        raise ConflictError(
            f"{ref} has commits in the forge that your repository lacks.",
            "Fetch them into your repository first, or import with force.",
        )


class _Source:
    """A person's repository, read by git with settings of our own in a private folder."""

    def __init__(self, store: ForgeStore, path: Path) -> None:
        self._git: Git = store.git
        self._path = path.resolve()
        self._git_dir = ""
        self._home = store.root / f"import-{store.ids.hex(12)}"
        self._home.mkdir(mode=0o700)
        # A repository of another uid needs safe.directory in a settings *file*: the environment form does not reach
        # the upload-pack that fetch starts. The star holds for this one process tree only.
        config = self._home / "gitconfig"
        config.write_text("[safe]\n\tdirectory = *\n[uploadpack]\n\tallowAnySHA1InWant = true\n")
        self._env = self._git.env(
            {"HOME": str(self._home), "GIT_CONFIG_GLOBAL": str(config), "GIT_ALLOW_PROTOCOL": "file",
             "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
        )  # fmt: skip

    def close(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)

    def _read(self, *args: str) -> Completed:
        # fsmonitor and hooks of the person's settings are never run: nothing here looks at a work tree.
        argv = (self._git.program, "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
        return run((*argv, "-C", str(self._path), *args), cwd=self._home, env=self._env, timeout=60.0, check=False)

    def find(self, branch: str, default: str) -> tuple[str, str]:
        """(commit id, branch name in the forge)."""
        if not self._path.is_dir() or not os.access(self._path, os.R_OK | os.X_OK):
            raise UsageError(f"{self._path} is not a folder that can be read.", "Give the path of a git repository.")
        folder = self._read("rev-parse", "--path-format=absolute", "--git-common-dir")
        if folder.returncode != 0:
            raise UsageError(f"{self._path} is not a git repository.", "Run git init and commit there first.")
        self._git_dir = folder.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")
        if self._read("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            raise UsageError(
                f"{self._path} is a shallow clone, which has no whole history to work on.",
                "Run git fetch --unshallow there first.",
            )
        if branch == "HEAD":
            named = self._read("symbolic-ref", "--short", "--quiet", "HEAD")
            name = named.stdout.decode("utf-8", "replace").strip() or default
            done = self._read("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        else:
            name, done = branch, self._read("show-ref", "--verify", "--hash", "--", f"refs/heads/{branch}")
        sha = done.stdout.decode().strip()
        if done.returncode != 0 or not _HEX.match(sha):
            if self._read("rev-parse", "--verify", "--quiet", "HEAD").returncode != 0:
                raise UsageError(f"{self._path} has no commit yet.", "Commit something there first.")
            raise UsageError(f"{self._path} has no branch {branch!r}.", "Give an existing branch.")
        return sha, name

    def fetch(self, bare: BareRepo, sha: str) -> None:
        """Brings the commit and its history; refs are set by the caller afterwards."""
        if bare.has(sha) and bare.git.call(bare.path, "rev-list", "--quiet", sha, "--not", "--all").returncode == 0:
            return
        argv = bare.git.argv(
            bare.path, "-c", "protocol.version=2", "fetch", "--no-tags", "--no-write-fetch-head", "--no-auto-gc",
            "--no-recurse-submodules", "--quiet", self._git_dir, sha,
        )  # fmt: skip
        done = run(argv, cwd=self._home, env=self._env, timeout=_SECONDS, check=False)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise UsageError(
                f"git could not read {self._path}: {said[-1] if said else 'no reason given'}.",
                "Check the repository with git fsck and who may read it.",
            )
