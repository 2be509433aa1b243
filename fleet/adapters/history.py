"""Commits of the fleet's own bare repositories, read for people. The only module that knows GitPython.

Reading our own repositories is what it is good for; what writes, fetches or pushes is ``fleet.adapters.git``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileStat:
    path: str
    insertions: int
    deletions: int


@dataclass(frozen=True, slots=True)
class Commit:
    """``message`` without its final newline; ``at`` in UTC, ISO 8601. ``files`` against the first parent."""

    sha: str
    author: str
    at: str
    message: str
    files: tuple[FileStat, ...]


def commit(repository: Path, sha: str) -> Commit | None:
    """The commit, or None when the repository does not have it (it was cleaned away, or never gated)."""
    import git  # noqa: PLC0415 - it looks for the git program when it is loaded

    if not (repository / "HEAD").exists():
        return None
    with git.Repo(str(repository)) as repo:
        try:
            found = repo.commit(sha)
        except (ValueError, git.exc.GitError):
            return None
        files = tuple(
            FileStat(str(path), int(row["insertions"]), int(row["deletions"]))
            for path, row in sorted(found.stats.files.items())
        )
        at = datetime.fromtimestamp(found.committed_date, UTC).isoformat()
        return Commit(found.hexsha, str(found.author), at, str(found.message).rstrip("\n"), files)
