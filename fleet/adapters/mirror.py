"""Bare mirrors of the forge's repositories: fetched with a read-only token, shared read-only with every workspace."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.adapters.git import BareRepo, HttpToken, store_name
from fleet.adapters.layout import Layout
from fleet.core.errors import TemporaryError

# How to reach a repository: (owner/name) → (URL, read-only token or None).
Origin = Callable[[str], tuple[str, HttpToken | None]]

_BRANCHES = "+refs/heads/*:refs/heads/*"
# Asked for by name, so that a fetch fails that saw no list of refs: git takes a cut-off head of an HTTP answer for the
# empty list of a very old server, and would then prune every branch and call that a success.
_HEAD = "+HEAD:refs/fleet/head"
_NO_HEAD = "couldn't find remote ref HEAD"


class Mirrors:
    """The mirrors of one fleet home. Objects are never pruned: workspaces borrow them (``gc.auto`` is 0)."""

    def __init__(self, layout: Layout, origin: Origin) -> None:
        self._layout = layout
        self._origin = origin

    def fetch(self, repo: str) -> BareRepo:
        """The mirror with all branches as they are at the forge now. One fetch at a time per repository.

        Raises GitDenied (token, address) or TemporaryError (network, or no branch was shown).
        """
        path = self._layout.mirrors / store_name(repo)
        with self._locked(path):
            mirror = self._open(path)
            url, token = self._origin(repo)
            local = "://" not in url
            try:
                mirror.fetch(url, (_BRANCHES, _HEAD), token, prune=True, trust_owner=local)
            except TemporaryError as error:
                if _NO_HEAD not in str(error):
                    raise
                self._without_head(mirror, repo, url, token, local)
            return mirror

    def _without_head(self, mirror: BareRepo, repo: str, url: str, token: HttpToken | None, local: bool) -> None:
        """Its default branch does not exist, or the answer was cut off. Nothing is pruned then."""
        if not mirror.shows_branches(url, token, trust_owner=local):
            raise TemporaryError(f"The forge showed no branch of {repo} at all.", "It is asked again.")
        mirror.fetch(url, (_BRANCHES,), token, trust_owner=local)

    def _open(self, path: Path) -> BareRepo:
        if (path / "HEAD").exists():
            return BareRepo(path)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        if self._layout.as_root:
            # Folders below inherit the group, so that the slots can read what git writes later.
            os.chown(path, 0, self._layout.slot_gid())
            path.chmod(0o2750)
        mirror = BareRepo.init(path)
        mirror.call("config", "gc.auto", "0")
        mirror.call("config", "core.sharedRepository", "0640" if self._layout.as_root else "0600")
        if self._layout.as_root:
            for folder, _, files in os.walk(path):
                os.chmod(folder, 0o2750)
                for name in files:
                    os.chmod(os.path.join(folder, name), 0o640)
        return mirror

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
