"""A person's own checkout, looked at without touching it: no lock, no index refresh, no hook, no fsmonitor."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.process import run
from fleet.core.errors import UsageError

# safe.directory from the command line is honoured, so a repository of another user can be read too.
_QUIET = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Checkout:
    """``branch`` is what is checked out ("" when detached). ``dirty``: files with changes that are not committed."""

    top: Path
    branch: str
    dirty: tuple[str, ...]

    def note(self) -> str:
        """One sentence about uncommitted work; empty when there is none."""
        if not self.dirty:
            return ""
        names = ", ".join(self.dirty[:_SHOWN]) + (" …" if len(self.dirty) > _SHOWN else "")
        return f"{len(self.dirty)} uncommitted files ({names}) are not part of the work; commit them if they should be"


def look(path: Path, env: Mapping[str, str]) -> Checkout:
    """Raises UsageError when ``path`` is not a git repository with a commit."""
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder.", "Give --repo the path of a git repository, or its URL.")
    if _git(path, env, "rev-parse", "--git-dir") is None:
        raise UsageError(f"{path} is not a git repository.", "Run `git init` and commit there first.")
    if _git(path, env, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") is None:
        raise UsageError(f"{path} has no commit yet.", "Commit something there first.")
    top = _git(path, env, "rev-parse", "--show-toplevel") or _git(path, env, "rev-parse", "--absolute-git-dir")
    branch = _git(path, env, "symbolic-ref", "--short", "--quiet", "HEAD") or ""
    status = _git(path, env, "status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all") or ""
    dirty = tuple(entry[3:] for entry in status.split("\0") if len(entry) > 3 and entry[2] == " ")
    return Checkout(Path(top or path), branch, dirty)


def _git(path: Path, env: Mapping[str, str], *args: str) -> str | None:
    """The output without its final newline; None when git says no."""
    program = shutil.which("git", path=env.get("PATH"))
    if program is None:
        raise UsageError("git is not installed.", "Install git 2.38 or newer.")
    clean = {"PATH": env.get("PATH", "/usr/bin:/bin"), "HOME": env.get("HOME", "/nonexistent"), "LC_ALL": "C.UTF-8"}
    settings = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    done = run((program, *_QUIET, "-C", str(path), *args), cwd=path, env=clean | settings, timeout=60.0, check=False)
    return done.stdout.decode("utf-8", "replace").removesuffix("\n") if done.returncode == 0 else None
