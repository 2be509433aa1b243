"""How git is called: a clean environment, nothing of the person's settings, no hooks, no prompt, a token by scope.

Host git runs on the fleet's *own* repositories only, never in a tree or ``.git`` that an agent could write (I11).
"""

from __future__ import annotations

import base64
import functools
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.adapters.process import Completed, ProgramFailed, run
from fleet.core.errors import InternalError, TemporaryError, UsageError

MINIMUM = (2, 38)
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
# In $GIT_DIR/info/attributes, the highest rank: what is checked out is then byte for byte what is in the blob.
PLAIN_ATTRIBUTES = "* -text -eol -filter -ident -working-tree-encoding\n"

_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.autocrlf", "false"),
    ("core.safecrlf", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.quotePath", "false"),
    ("attr.tree", EMPTY_TREE),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("push.recurseSubmodules", "no"),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "main"),
    ("pack.threads", "1"),
    ("commit.gpgSign", "false"),
    ("credential.helper", ""),
)
_AUTH = re.compile(r"returned error: 40[13]|Authentication failed|could not read Username|Permission denied", re.I)
_GONE = re.compile(r"repository .* not found|returned error: 404|does not appear to be a git repository", re.I)


@dataclass(frozen=True, slots=True)
class HttpToken:
    """A token that git may send to URLs below ``url_prefix`` and nowhere else; it never stands in argv or a URL."""

    url_prefix: str
    token: str = field(repr=False)

    def settings(self) -> tuple[tuple[str, str], ...]:
        """Without redirects: a server must not be able to hand the header on."""
        basic = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        key = f"http.{self.url_prefix}.extraHeader"
        return (key, f"Authorization: Basic {basic}"), ("http.followRedirects", "false")


class GitDenied(UsageError):
    """The other side refused the token, or there is no such repository for it."""


@functools.cache
def git_program() -> str:
    """Absolute path of git. Raises UsageError when it is missing or older than ``MINIMUM``."""
    found = shutil.which("git") or shutil.which("git", path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin")
    wanted = ".".join(map(str, MINIMUM))
    if found is None:
        raise UsageError("git is not installed.", f"Install git {wanted} or newer.")
    program = os.path.abspath(found)
    version = git_version(program)
    if version < MINIMUM:
        have = ".".join(map(str, version))
        raise UsageError(f"git {have} at {program} is too old.", f"Install git {wanted} or newer.")
    return program


def git_version(program: str) -> tuple[int, ...]:
    """For example (2, 39, 5)."""
    said = run((program, "--version"), cwd="/", env={"PATH": os.defpath, "LC_ALL": "C"}, timeout=20).stdout
    found = re.search(rb"(\d+(?:\.\d+)+)", said)
    return tuple(int(part) for part in found[1].split(b".")) if found else (0,)


def clean_environment(settings: tuple[tuple[str, str], ...] = ()) -> dict[str, str]:
    """The complete environment of a git process. ``settings`` come last and win."""
    every = _SETTINGS + settings
    env = {
        "PATH": f"{os.path.dirname(git_program())}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https:file",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_COUNT": str(len(every)),
    }
    for number, (key, value) in enumerate(every):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


def git(
    *args: str,
    cwd: Path | str = "/",
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    settings: tuple[tuple[str, str], ...] = (),
    timeout: float = 300.0,
    check: bool = True,
) -> Completed:
    """Runs git. Raises ProgramFailed with git's own words when ``check`` and the status is not 0."""
    environment = {**clean_environment(settings), **(env or {})}
    return run((git_program(), *args), cwd=cwd, env=environment, input=input, timeout=timeout, check=check)


def network_error(done: Completed, what: str) -> Exception:
    """The right error for a failed fetch or push: refused for good, or worth another try."""
    said = done.stderr.decode("utf-8", "replace").strip()[-800:]
    if _AUTH.search(said):
        return GitDenied(f"git was not let in while {what}: {said}", "Check the token and its access.")
    if _GONE.search(said):
        return GitDenied(f"git found no repository while {what}: {said}", "Check the address.")
    if done.returncode == 128 or done.returncode < 0:
        return TemporaryError(f"git failed while {what}: {said}")
    return ProgramFailed(done)


def checked(name: str) -> str:
    """A ref, revision or SHA that cannot be taken for an option. Raises InternalError for anything else."""
    if not name or name.startswith(("-", ":")) or any(ord(c) < 32 or c == "\x7f" for c in name):
        raise InternalError(f"{name[:80]!r} is not a usable git revision.")
    return name
