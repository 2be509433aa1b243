"""The result as a new ref in the person's own repository (``fleet run --repo PATH``); nothing else there is touched.

Objects go in as one pack through a pipe and the branch is made by a compare-and-swap that only creates. No hook runs,
no configuration is written, HEAD, index and working tree are not looked at. As root git runs as the owner of the
repository, so that no file in it ever belongs to somebody else.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fleet.adapters.git import BareRepo
from fleet.adapters.git_run import clean_environment, git_program
from fleet.adapters.process import Completed, ProgramTimedOut, run
from fleet.core.errors import FleetError
from fleet.publisher.plan import local_names

_SECONDS = 300.0


class LocalRefError(FleetError):
    """The ref could not be written; the pull request is not affected."""


def write_local_ref(path: Path, store: BareRepo, source_ref: str, head: str, base_sha: str, branch: str) -> str:
    """Makes ``branch`` (or ``branch-2`` … when that is taken by another commit) at ``head``; returns the full ref.

    ``source_ref`` names ``head`` in ``store``. Asking again for the same commit finds the ref made before.
    Raises LocalRefError with one sentence.
    """
    repo = _Repository(path)
    for name in local_names(branch):
        ref = f"refs/heads/{name}"
        there = repo.sha(ref)
        if there == head:
            return ref
        if there:
            continue
        if not repo.has(head):
            repo.take(_pack(store, source_ref, base_sha if repo.has(base_sha) else ""))
        if repo.create(ref, head):
            return ref
    raise LocalRefError(f"Every name like {branch} is taken in {path}.", "Delete branches that are no longer needed.")


def _pack(store: BareRepo, ref: str, without: str) -> bytes:
    """The pack of a bundle: what ``ref`` has and ``without`` has not."""
    with tempfile.TemporaryDirectory(prefix="fleet-local-ref-") as folder:
        file = Path(folder) / "change.bundle"
        store.bundle(file, ref, (without,) if without else ())
        return file.read_bytes().split(b"\n\n", 1)[1]


class _Repository:
    """Git in the person's repository, as its owner."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner: tuple[int, int] | None = None
        found = self._call("rev-parse", "--git-common-dir")
        if not found.ok:
            raise LocalRefError(f"{path} is no longer a git repository.")
        owner = (path / os.fsdecode(found.stdout.rstrip(b"\n"))).stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            self._owner = (owner.st_uid, owner.st_gid)

    def sha(self, ref: str) -> str:
        """The commit at ``ref``, empty when there is no such ref."""
        return self._call("rev-parse", "--verify", "--quiet", ref).stdout.decode().strip()

    def has(self, commit: str) -> bool:
        return self._call("cat-file", "-e", f"{commit}^{{commit}}").ok

    def take(self, pack: bytes) -> None:
        done = self._call("index-pack", "--stdin", "--fix-thin", input=pack)
        if not done.ok:
            raise LocalRefError(f"{self._path} could not take the new commit: {_said(done)}")

    def create(self, ref: str, commit: str) -> bool:
        """True when made; False when somebody else made it in between."""
        done = self._call("update-ref", "-m", "fleet: result", ref, commit, "0" * 40)
        if not done.ok and not self.sha(ref):
            raise LocalRefError(f"The ref {ref} could not be written in {self._path}: {_said(done)}")
        return done.ok

    def _call(self, *args: str, input: bytes | None = None) -> Completed:
        # The person named this repository on the command line, so whoever owns it is trusted for these few calls.
        env = clean_environment((("safe.directory", "*"),))
        env["GIT_NO_LAZY_FETCH"] = "1"
        env.update({f"GIT_{role}_NAME": "Fleet" for role in ("AUTHOR", "COMMITTER")})
        env.update({f"GIT_{role}_EMAIL": "fleet@localhost" for role in ("AUTHOR", "COMMITTER")})
        user, group = self._owner or (None, None)
        argv = (git_program(), "-C", str(self._path), *args)
        try:
            return run(argv, cwd="/", env=env, input=input, timeout=_SECONDS, check=False, user=user, group=group)
        except ProgramTimedOut as error:
            raise LocalRefError(f"git did not come to an end in {self._path}.") from error


def _said(done: Completed) -> str:
    return done.stderr.decode("utf-8", "replace").strip()[-300:] or f"git ended with status {done.returncode}"
