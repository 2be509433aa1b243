"""Which new files of a working copy are litter: what tools leave behind, and what base's own ignore rules say.

Pure, except for the ignore rules, which ``BaseIgnores`` reads from the base commit and never from the agent's tree.
"""

from __future__ import annotations

import fnmatch
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fleet.adapters.git import BareRepo
from fleet.core.errors import InternalError

_FOLDERS = frozenset(
    "__pycache__ .pytest_cache .mypy_cache .ruff_cache .tox .nox .hypothesis .eggs .ipynb_checkpoints node_modules "
    ".venv venv .gradle .idea .vscode .cache .npm .yarn .pnpm-store .pytype .coverage_html htmlcov".split()
)
_PATTERNS = ("*.egg-info", "*.pyc", "*.pyo", ".DS_Store", "Thumbs.db", ".coverage", ".coverage.*", "*.swp", "*~")
_ZERO_WIDTH = dict.fromkeys(map(ord, "\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u206a\u206f\ufeff"))


def is_litter_name(name: str) -> bool:
    """Whether a file or folder of this name is what a tool leaves behind. What base tracks is never asked."""
    return name in _FOLDERS or any(fnmatch.fnmatchcase(name, pattern) for pattern in _PATTERNS)


def is_git_folder(name: str) -> bool:
    """``.git`` in any spelling that some file system takes for it."""
    plain = name.translate(_ZERO_WIDTH).lower().split(":", 1)[0].rstrip(". ")
    return plain in (".git", "git~1")


class BaseIgnores:
    """The ignore rules of the base commit: its ``.gitignore`` files and nothing else."""

    def __init__(self, mirror: BareRepo, base_sha: str, tracked: Sequence[tuple[str, str, str]]) -> None:
        """``tracked``: (path, mode, blob) of every file of base."""
        self._mirror = mirror
        files = [(path, blob) for path, mode, blob in tracked if _is_rules(path) and mode.startswith("100")]
        contents = mirror.blobs((blob for _, blob in files), limit=1 << 20)
        self._rules = [(path, contents[blob]) for path, blob in files if blob in contents]

    def ignored(self, paths: Sequence[str]) -> frozenset[str]:
        """Those of ``paths`` that base's rules ignore."""
        if not self._rules or not paths:
            return frozenset()
        with tempfile.TemporaryDirectory(prefix="fleet-ignore-") as folder:
            for path, content in self._rules:
                place = Path(folder, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            # "./" keeps a name that begins with a colon from being read as pathspec magic.
            asked = b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths)
            args = (f"--work-tree={folder}", "check-ignore", "--no-index", "-z", "--stdin")
            # Relative names must be taken below the work tree, so git stands there.
            env = {"GIT_LITERAL_PATHSPECS": "0"}
            done = self._mirror.call("-C", folder, *args, input=asked, env=env, check=False)
        if done.returncode not in (0, 1):
            raise InternalError(f"git could not apply the ignore rules: {done.stderr.decode('utf-8', 'replace')}")
        return frozenset(os.fsdecode(name[2:]) for name in done.stdout.split(b"\0") if name)


def _is_rules(path: str) -> bool:
    return path.rsplit("/", 1)[-1] == ".gitignore"
