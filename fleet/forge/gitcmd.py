"""How the forge calls git: on its own bare repositories only, with nothing of the caller's environment or settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fleet.adapters.process import Completed, run
from fleet.core.errors import InternalError, UsageError

_SECONDS = 120.0
NOBODY = "0" * 40


def find_git() -> str:
    """Absolute path of git. Raises UsageError when there is none."""
    found = shutil.which("git")
    if found is None:
        raise UsageError("git is not installed.", "Install git 2.38 or newer.")
    return os.path.abspath(found)


class Git:
    """Runs git for the forge. ``hooks`` is the one folder hooks may come from; it holds only the forge's own."""

    def __init__(self, home: Path, hooks: Path) -> None:
        self.program = find_git()
        self._home = home
        self._hooks = hooks

    def env(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The complete environment of a git process: no host settings, no prompt, no transport of its own."""
        return {
            "PATH": f"{os.path.dirname(self.program)}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "",
            "GIT_LITERAL_PATHSPECS": "1",
            **(extra or {}),
        }

    def argv(self, repo: Path, *args: str) -> tuple[str, ...]:
        """The full command line for one bare repository, without hooks."""
        return (self.program, "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", f"--git-dir={repo}", *args)

    def server_argv(self, *args: str, hooks: bool) -> tuple[str, ...]:
        """The command line of upload-pack or receive-pack; ``hooks``: with the forge's own."""
        path = str(self._hooks) if hooks else "/dev/null"
        return (self.program, "-c", f"core.hooksPath={path}", "-c", "gc.auto=0", *args)

    def call(self, repo: Path, *args: str, input: bytes = b"", extra: Mapping[str, str] | None = None) -> Completed:
        """Runs git and returns whatever came of it."""
        return run(
            self.argv(repo, *args), cwd=self._home, env=self.env(extra), input=input, timeout=_SECONDS, check=False
        )

    def out(self, repo: Path, *args: str, input: bytes = b"", extra: Mapping[str, str] | None = None) -> bytes:
        """Standard output of a git command that must succeed. Raises InternalError with git's own words."""
        done = self.call(repo, *args, input=input, extra=extra)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise InternalError(f"git {args[0]} failed in the forge's {repo.name}: {said}")
        return done.stdout
