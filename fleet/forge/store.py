"""What the forge keeps on disk, for the server and for the entry points that set it up.

``root`` (0700) holds ``forge.db``, ``repos/<owner>/<name>.git`` and ``hooks/`` (the forge's own). Any number of
processes may open it at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.core.errors import InternalError, UsageError
from fleet.core.ports import Clock, Ids
from fleet.forge.access import LEVELS, digest, parse_scopes
from fleet.forge.bare import BareRepo
from fleet.forge.db import Database, Row, Rows
from fleet.forge.gitcmd import Git

_NAME = re.compile(r"^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?$")
_RESERVED = frozenset({"api", "static", "login"})
_WORKFLOW_HOOK = """#!/bin/sh
# Refuses pushed commits that touch workflow files; runs only for tokens without the workflows scope.
while read -r old new ref; do
  case "$new" in *[!0]*) ;; *) continue ;; esac
  found=$(git rev-list --full-history --max-count=1 "$new" --not --all -- .github/workflows) || exit 1
  if [ -n "$found" ]; then
    echo "refusing to allow a token to create or update a file in .github/workflows without the workflows scope" >&2
    exit 1
  fi
done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository as stored."""

    id: int
    owner: str
    name: str
    default_branch: str
    private: bool
    description: str
    created_at: str
    updated_at: str

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"


class Tx:
    """One transaction, with what its steps need: rows, the time, the address of the forge, the repositories."""

    def __init__(self, store: ForgeStore, rows: Rows) -> None:
        self.store = store
        self.rows = rows
        self.now = iso(store.clock.now())
        self._base: str | None = None

    @property
    def base(self) -> str:
        """The one base URL of this forge (no trailing slash); the client checks the host of every link."""
        if self._base is None:
            self._base = self.meta("base_url") or "http://127.0.0.1"
        return self._base

    def meta(self, key: str) -> str | None:
        row = self.rows.one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else str(row["value"])

    def bare(self, repo: Repo) -> BareRepo:
        return self.store.bare(repo)

    def repo(self, owner: str, name: str) -> Repo | None:
        row = self.rows.one("SELECT * FROM repos WHERE owner = ? AND name = ?", owner, name)
        return None if row is None else as_repo(row)

    def repos(self) -> list[Repo]:
        return [as_repo(row) for row in self.rows.all("SELECT * FROM repos ORDER BY owner, name")]

    def user(self, login: str) -> Row | None:
        return self.rows.one("SELECT * FROM users WHERE login = ?", login)

    def user_by_id(self, user_id: int) -> Row:
        row = self.rows.one("SELECT * FROM users WHERE id = ?", user_id)
        if row is None:
            raise InternalError(f"The forge has no user {user_id}.")
        return row


class ForgeStore:
    """The forge's disk. Creating one makes the folders; it may be used from any thread and beside a running server."""

    def __init__(self, root: Path, clock: Clock, ids: Ids) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if root.stat().st_uid != os.geteuid():
            raise UsageError(f"The forge in {root} belongs to another user.", "Use a FLEET_HOME of your own.")
        os.chmod(root, 0o700)
        self.root = root.resolve()
        self.clock = clock
        self.ids = ids
        self._hooks = self.root / "hooks"
        self._write_hook()
        self.git = Git(self.root, self._hooks)
        self._db = Database(self.root / "forge.db")

    def _write_hook(self) -> None:
        self._hooks.mkdir(exist_ok=True, mode=0o700)
        target = self._hooks / "pre-receive"
        if not target.exists() or target.read_text() != _WORKFLOW_HOOK:
            fresh = self._hooks / f"pre-receive.{os.getpid()}"
            fresh.write_text(_WORKFLOW_HOOK)
            os.chmod(fresh, 0o700)
            os.replace(fresh, target)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """One consistent look at the store."""
        with self._db.transaction(write=False) as rows:
            yield Tx(self, rows)

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """All or nothing; on disk when this ends without an exception."""
        with self._db.transaction(write=True) as rows:
            yield Tx(self, rows)

    def close(self) -> None:
        """Closes idle database connections."""
        self._db.close()

    def bare(self, repo: Repo) -> BareRepo:
        """The git side of a repository."""
        return BareRepo(self.root / "repos" / repo.owner / f"{repo.name}.git", self.git)

    def set_base_url(self, url: str) -> None:
        """Tells under which URL the server answers; every link uses it."""
        with self.write() as tx:
            tx.rows.run("INSERT OR REPLACE INTO meta VALUES ('base_url', ?)", url.rstrip("/"))

    def ensure_user(self, login: str, name: str = "", email: str = "", type: str = "User") -> int:
        """Creates a user, or finds it; returns its id. Raises UsageError on an impossible login."""
        check_name(login.removesuffix("[bot]"), "user")
        with self.write() as tx:
            found = tx.user(login)
            if found is not None:
                return int(found["id"])
            return tx.rows.run(
                "INSERT INTO users (login, name, email, type, created_at) VALUES (?, ?, ?, ?, ?)",
                login, name or login, email or f"{login}@forge.invalid", type, tx.now,
            )  # fmt: skip

    def ensure_repo(
        self, full_name: str, default_branch: str = "main", private: bool = True, description: str = ""
    ) -> Repo:
        """Creates a repository, or finds it; its owner becomes a user with admin. Raises UsageError on a bad name."""
        owner, _, name = full_name.partition("/")
        check_name(owner, "owner")
        check_name(name, "repository")
        if name.endswith(".git"):
            raise UsageError(f"{name!r} cannot be a repository name.", "Leave .git away.")
        owner_id = self.ensure_user(owner)
        with self.write() as tx:
            repo = tx.repo(owner, name)
            if repo is None:
                self._insert_repo(tx, owner_id, owner, name, default_branch, private, description)
                repo = tx.repo(owner, name)
                assert repo is not None
            self.bare(repo).ensure(repo.default_branch)
            return repo

    def _insert_repo(
        self, tx: Tx, owner_id: int, owner: str, name: str, default_branch: str, private: bool, description: str
    ) -> None:
        repo_id = tx.rows.run(
            "INSERT INTO repos (owner, name, default_branch, private, description, next_number, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, 1, ?, ?)",
            owner, name, default_branch, int(private), description, tx.now, tx.now,
        )  # fmt: skip
        tx.rows.run("INSERT INTO permissions VALUES (?, ?, 'admin')", repo_id, owner_id)

    def set_default_branch(self, full_name: str, branch: str) -> None:
        """Makes ``branch`` the default one."""
        repo = self.repo(full_name)
        self.git.out(self.bare(repo).path, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
        with self.write() as tx:
            tx.rows.run("UPDATE repos SET default_branch = ? WHERE id = ?", branch, repo.id)

    def set_permission(self, full_name: str, login: str, level: str) -> None:
        """Gives a user ``read``, ``write`` or ``admin`` on a repository, or takes it away (``none``)."""
        repo = self.repo(full_name)
        user_id = self.ensure_user(login)
        if level not in LEVELS:
            raise UsageError(f"{level!r} is not a permission.", "Use none, read, write or admin.")
        with self.write() as tx:
            tx.rows.run("DELETE FROM permissions WHERE repo_id = ? AND user_id = ?", repo.id, user_id)
            if level != "none":
                tx.rows.run("INSERT INTO permissions VALUES (?, ?, ?)", repo.id, user_id, level)

    def issue_token(self, login: str, scopes: Collection[str], repos: Collection[str] | None = None) -> str:
        """A new secret for ``login``; only its digest is stored. ``repos`` limits it to those full names."""
        parsed = parse_scopes(scopes)
        user_id = self.ensure_user(login)
        only = None if repos is None else json.dumps(sorted(name.lower() for name in repos))
        secret = f"fft_{self.ids.token(24)}"
        with self.write() as tx:
            tx.rows.run(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?)", digest(secret), user_id, json.dumps(parsed), only, tx.now
            )
        return secret

    def revoke_token(self, secret: str) -> bool:
        """Ends a token and its sessions; False when there is none."""
        with self.write() as tx:
            return tx.rows.count("DELETE FROM tokens WHERE digest = ?", digest(secret)) > 0

    def repo(self, full_name: str) -> Repo:
        """The repository. Raises UsageError when there is none."""
        owner, _, name = full_name.partition("/")
        with self.read() as tx:
            repo = tx.repo(owner, name)
        if repo is None:
            raise UsageError(f"The forge has no repository {full_name}.", "Create it with ensure_repo first.")
        return repo


def as_repo(row: Row) -> Repo:
    return Repo(
        row["id"], row["owner"], row["name"], row["default_branch"], bool(row["private"]), row["description"],
        row["created_at"], row["updated_at"],
    )  # fmt: skip


def iso(seconds: float) -> str:
    """Unix seconds → GitHub's form of a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_name(name: str, what: str) -> None:
    """Raises UsageError when ``name`` cannot be part of an address or a path."""
    if not _NAME.match(name) or name.lower() in _RESERVED:
        raise UsageError(f"{name!r} cannot be the name of a {what}.", "Use letters, digits, '-', '_' and '.'.")
