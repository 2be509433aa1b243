"""Real projects as git repositories: one commit of an unpacked source distribution, the same SHA every time."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.realdata.index import sdist

_WHO = {
    "GIT_AUTHOR_NAME": "Upstream",
    "GIT_AUTHOR_EMAIL": "upstream@example.invalid",
    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "Upstream",
    "GIT_COMMITTER_EMAIL": "upstream@example.invalid",
    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
}
_ENV = {**_WHO, "PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *words: str) -> str:
    """Runs git in a repository that the tests made."""
    safe = ("-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")
    done = subprocess.run(["git", *safe, *words], cwd=folder, env=_ENV, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"git {words[0]}: {done.stderr}")
    return done.stdout


def unpack(name: str, version: str, into: Path) -> Path:
    """Unpacks the source distribution; returns its top folder. Raises IndexAway."""
    archive = sdist(name, version)
    into.mkdir(parents=True, exist_ok=True)
    for path, data, executable in _members(archive):
        place = into / path
        if into not in place.parents or ".." in place.parts:
            raise AssertionError(f"{archive.name} names {path!r}, which leads out of it")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755 if executable else 0o644)
    (top,) = into.iterdir()
    return top


def _members(archive: Path) -> Iterator[tuple[str, bytes, bool]]:
    """Regular files only, as (path, content, executable): the same on every Python, with or without tar filters."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if not name.endswith("/"):
                    yield name, packed.read(name), False
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            if file is not None:
                yield member.name, file.read(), bool(member.mode & 0o100)


def real_project(name: str, version: str, into: Path, extra: dict[str, str] | None = None) -> Path:
    """A git repository on branch ``main`` with the files of the source distribution, and ``extra`` files added.

    What the packaging put there (PKG-INFO, *.egg-info) stays, as upstream released it.
    """
    top = unpack(name, version, into / f"{name}-{version}")
    for path, text in (extra or {}).items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    git(top, "init", "-q", "-b", "main")
    commit_all(top, f"{name} {version}")
    return top


def commit_all(repo: Path, message: str) -> str:
    """Commits every file, ignored ones too; returns the SHA."""
    git(repo, "add", "-A", "-f")
    git(repo, "commit", "-q", "-m", message)
    return git(repo, "rev-parse", "HEAD").strip()
