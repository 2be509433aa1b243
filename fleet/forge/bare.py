"""One bare repository of the forge: refs, commits and merges, by git itself."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.core.errors import InternalError
from fleet.forge.gitcmd import NOBODY, Git

_SHA = re.compile(r"^[0-9a-f]{4,40}$")
_FULL_SHA = re.compile(r"^[0-9a-f]{40}$")
_FIELDS = ("%H", "%P", "%T", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%B")
_CONFIG = (
    ("http.receivepack", "true"),
    ("uploadpack.allowAnySHA1InWant", "true"),
    ("uploadpack.allowFilter", "true"),
    ("receive.hideRefs", "refs/pull"),
    ("gc.auto", "0"),
    ("receive.autogc", "false"),
    ("core.fsync", "committed,reference"),
    ("core.logAllRefUpdates", "always"),
)


@dataclass(frozen=True, slots=True)
class Person:
    """Who made a commit, and when (ISO 8601)."""

    name: str
    email: str
    date: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit as git tells it."""

    sha: str
    parents: tuple[str, ...]
    tree: str
    author: Person
    committer: Person
    message: str

    @property
    def title(self) -> str:
        return self.message.strip().split("\n", 1)[0]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a three-way merge gives: a tree, or the paths in conflict."""

    tree: str
    conflicts: tuple[str, ...]


class BareRepo:
    """Git operations on ``path``. Revisions are branch or tag names or hexadecimal ids, never git expressions."""

    def __init__(self, path: Path, git: Git) -> None:
        self.path = path
        self.git = git

    def ensure(self, default_branch: str) -> None:
        """Creates the repository, or sets its settings again. Nothing half-made is ever seen under ``path``."""
        if not (self.path / "HEAD").exists():
            fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
            fresh.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.git.out(fresh, "init", "--quiet", "--bare", "--template=", f"--initial-branch={default_branch}")
            for key, value in _CONFIG:
                self.git.out(fresh, "config", key, value)
            os.rename(fresh, self.path)

    def refs(self) -> dict[str, str]:
        """Branches and tags: full name → id."""
        out = self.git.out(self.path, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags")
        pairs = (line.split(" ", 1) for line in out.decode("utf-8", "replace").splitlines())
        return {name: sha for sha, name in pairs}

    def valid_ref(self, name: str) -> bool:
        """Whether git accepts ``name`` (a full ref name)."""
        return name.startswith("refs/") and self.git.call(self.path, "check-ref-format", name).returncode == 0

    def ref(self, name: str) -> str | None:
        """Id of a full ref name, or None."""
        if not name.startswith("refs/") or any(c in name for c in "\n\0"):
            return None
        done = self.git.call(self.path, "show-ref", "--verify", "--hash", "--", name)
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def branch(self, name: str) -> str | None:
        return self.ref(f"refs/heads/{name}")

    def resolve(self, rev: str) -> str | None:
        """The commit that a branch, tag or (short) id means, or None."""
        names = [f"refs/heads/{rev}", f"refs/tags/{rev}", *([rev] if rev.startswith("refs/") else [])]
        found = next((sha for name in names if (sha := self.ref(name))), None)
        if found is None and not _SHA.match(rev):
            return None
        done = self.git.call(self.path, "rev-parse", "--verify", "--quiet", f"{found or rev}^{{commit}}")
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def has(self, sha: str) -> bool:
        """Whether the object with this full id is here."""
        return bool(_FULL_SHA.match(sha)) and self.git.call(self.path, "cat-file", "-e", sha).returncode == 0

    def update_ref(self, name: str, new: str, old: str | None) -> bool:
        """Compare-and-swap: False when ``name`` is not ``old`` any more (None: whatever it was; NOBODY: new)."""
        args = ["update-ref", name, new] if old is None else ["update-ref", name, new, old]
        return self.git.call(self.path, *args).returncode == 0

    def delete_ref(self, name: str, old: str) -> bool:
        return self.git.call(self.path, "update-ref", "-d", name, old).returncode == 0

    def log(self, include: Sequence[str], exclude: Sequence[str] = (), limit: int = 250, skip: int = 0) -> list[Commit]:
        """Commits reachable from ``include`` but not from ``exclude``, newest first."""
        return self._log(["--max-count", str(limit), "--skip", str(skip)], include, exclude)

    def _log(self, options: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> list[Commit]:
        form = "--format=tformat:" + "%x00".join(_FIELDS)
        revs = [*include, *(f"^{sha}" for sha in exclude)]
        out = self.git.out(self.path, "log", "-z", form, "--encoding=UTF-8", *options, *revs, "--")
        fields = out.decode("utf-8", "replace").split("\0")
        if len(fields) % len(_FIELDS) != 1:
            raise InternalError("git log answered in an unknown shape.")
        return [_commit(fields[i : i + len(_FIELDS)]) for i in range(0, len(fields) - 1, len(_FIELDS))]

    def between(self, base: str, head: str, limit: int = 250) -> list[Commit]:
        """Commits of ``head`` that ``base`` lacks, oldest first, parents before children."""
        newest_first = self._log(["--topo-order", "--max-count", str(limit)], [head], [base])
        return newest_first[::-1]

    def commit(self, sha: str) -> Commit | None:
        """The commit with this full id, or None."""
        if self.resolve(sha) is None:
            return None
        return self.log([sha], limit=1)[0]

    def ahead_behind(self, base: str, head: str) -> tuple[int, int]:
        """(commits only in head, commits only in base)."""
        out = self.git.out(self.path, "rev-list", "--left-right", "--count", f"{base}...{head}", "--")
        behind, ahead = out.split()
        return int(ahead), int(behind)

    def merge_base(self, one: str, two: str) -> str | None:
        done = self.git.call(self.path, "merge-base", one, two)
        return done.stdout.decode().split("\n")[0] if done.returncode == 0 else None

    def is_ancestor(self, old: str, new: str) -> bool:
        return self.git.call(self.path, "merge-base", "--is-ancestor", old, new).returncode == 0

    def merge_tree(self, base: str, head: str) -> Merged:
        """Merges without a work tree (git ≥ 2.38)."""
        done = self.git.call(self.path, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", base, head)
        parts = done.stdout.decode("utf-8", "replace").split("\0")
        if done.returncode == 0:
            return Merged(parts[0].strip(), ())
        if done.returncode == 1:
            return Merged("", tuple(part for part in parts[1:] if part))
        return Merged("", ("no common history",))

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, who: Person) -> str:
        """Writes a commit object; ``who`` is author and committer."""
        env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _identity(who)}
        args = [arg for parent in parents for arg in ("-p", parent)]
        return self.git.out(self.path, "commit-tree", tree, *args, input=message.encode(), extra=env).decode().strip()

    def tree_entry(self, commit: str, path: str) -> tuple[str, str, int] | None:
        """(type, id, size) of ``path`` in a commit, or None."""
        ask = f"{commit}:{path}\n".encode()
        if b"\n" in ask[:-1]:
            return None
        answer = self.git.out(self.path, "cat-file", "--batch-check", input=ask).decode("utf-8", "replace").split()
        return (answer[1], answer[0], int(answer[2])) if len(answer) == 3 and _FULL_SHA.match(answer[0]) else None

    def blob(self, sha: str) -> bytes:
        return self.git.out(self.path, "cat-file", "blob", sha)

    def listing(self, tree: str) -> list[tuple[str, str, str]]:
        """Direct entries of a tree: (type, id, name)."""
        out = self.git.out(self.path, "ls-tree", "-z", tree).decode("utf-8", "replace")
        entries = (line.split("\t", 1) for line in out.split("\0") if line)
        return [(meta.split(" ")[1], meta.split(" ")[2], name) for meta, name in entries]


def _identity(who: Person) -> tuple[tuple[str, str], ...]:
    return (("NAME", who.name), ("EMAIL", who.email), ("DATE", who.date))


def _commit(fields: Sequence[str]) -> Commit:
    sha, parents, tree, author, author_mail, author_date, name, mail, date, message = fields
    return Commit(
        sha=sha.strip(),
        parents=tuple(parents.split()),
        tree=tree,
        author=Person(author, author_mail, author_date),
        committer=Person(name, mail, date),
        message=message.rstrip("\n"),
    )


__all__ = ["NOBODY", "BareRepo", "Commit", "Merged", "Person"]
