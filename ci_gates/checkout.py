"""The same gates on any checkout: what a person has against its base, before anybody is asked to look at it.

The checkout is read by fetching from it into a bare repository of our own. With ``worktree`` its files are read too,
one by one and without following links; git never runs with the checkout's own settings (I11).
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ci_gates.head import FLEET
from ci_gates.inputs import read_texts
from ci_gates.plain import clean
from ci_gates.plan import make_plan
from ci_gates.runner import Gated, GateRunner, Job, Listener
from ci_gates.starter import BROUGHT, starter
from ci_gates.verdict import described
from fleet.adapters.git import BareRepo, TreeEntry
from fleet.adapters.git_run import git
from fleet.core.codec import encode
from fleet.core.errors import FleetError, UsageError
from fleet.core.gateconfig import FILE
from fleet.core.gates import GateRecord, Mode, Outcome, VerdictRecord

_BASES = (
    "refs/import/remotes/upstream/main",
    "refs/import/remotes/upstream/master",
    "refs/import/remotes/origin/HEAD",
    "refs/import/remotes/origin/main",
    "refs/import/remotes/origin/master",
    "refs/import/heads/main",
    "refs/import/heads/master",
)
_ADVICE_SHOWN = 3
_LARGEST = 64 * 1024 * 1024
PASSED, USAGE, RED, PARKED = 0, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Imported:
    """Two commits in a store of our own."""

    store: BareRepo
    head: str
    base: str


def check(
    path: Path,
    runner: GateRunner,
    write: Callable[[str], object],
    *,
    base: str = "",
    as_json: bool = False,
    worktree: bool = False,
    allow_no_tests: bool = False,
) -> int:
    """Gates ``path`` against ``base`` (a branch, tag or SHA there; default: where it left the main branch).

    ``write`` gets the lines for people, or JSON lines. Returns the exit code: 0 passed, 2 usage, 3 red, 4 parked.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="fleet-gates-") as scratch:
            found = import_checkout(path, Path(scratch) / "store.git", base, worktree)
            job = Job("checkout", 0, 1, found.head, found.base, "gates/checkout", allow_no_tests)
            told = Listener() if as_json else Listener(recorded=lambda record: _show(record, write))
            gated = runner.run(found.store, job, told)
    except FleetError as error:
        row = {"v": 1, "type": "error", "exit_code": error.exit_code, "message": str(error)}
        write(json.dumps(row) if as_json else f"fleet gates: {clean(str(error))}")
        return error.exit_code
    _conclude(gated, write, as_json)
    return _exit_code(gated.verdict)


def import_checkout(path: Path, store: Path, base: str = "", worktree: bool = False) -> Imported:
    """Brings head and base of the repository at ``path`` into a new bare repository. Raises UsageError."""
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder.", "Name a git checkout.")
    top = _top(path)
    repo = BareRepo.init(store)
    try:
        repo.fetch(top, ("+HEAD:refs/import/HEAD", "+refs/*:refs/import/*"), trust_owner=True)
    except FleetError as error:
        hint = "Run this in a git repository with at least one commit."
        raise UsageError(f"{path} cannot be read as a git repository: {error.message}", hint) from error
    head = repo.rev("refs/import/HEAD")
    if head is None:
        raise UsageError(f"{path} has no commit yet.", "Commit something first.")
    since = _base(repo, head, base)
    if worktree:
        head = _with_worktree(repo, top, head)
    if repo.tree(head) == repo.tree(since):
        hint = "Commit the change, or give --worktree to include what is not committed."
        raise UsageError(f"{path} does not differ from its base {since[:12]}.", hint)
    return Imported(repo, head, since)


def first_config(path: Path) -> tuple[Path, str]:
    """(file, text) of a first ``.fleet.toml`` for the checkout at ``path``, from what its last commit shows.

    Nothing is written. Raises UsageError when there is no checkout with a commit.
    """
    top = _top(path)
    if not (top / ".git").exists():
        raise UsageError(f"{top} has no folder to write in.", "Run this in a checkout, not in a bare repository.")
    with tempfile.TemporaryDirectory(prefix="fleet-init-") as scratch:
        repo = BareRepo.init(Path(scratch) / "store.git")
        try:
            repo.fetch(top, ("+HEAD:refs/import/HEAD",), trust_owner=True)
        except FleetError as error:
            raise UsageError(
                f"{path} has no commit that can be read: {error.message}", "Commit something first."
            ) from error
        files = tuple(entry.path for entry in repo.files("refs/import/HEAD"))
        texts = {name: text for name, text in read_texts(repo, "refs/import/HEAD", files).items() if name != FILE}
    plan = make_plan(files, texts, programs=BROUGHT, allow_no_tests=True)
    return top / FILE, starter(plan)


def _top(path: Path) -> Path:
    """The folder above ``path`` that holds ``.git``, or a bare repository itself."""
    path = path.resolve()
    for folder in (path, *path.parents):
        if (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir()):
            return folder
    raise UsageError(f"{path} is not in a git repository.", "Run this in a git checkout, or run `git init` there.")


def _base(repo: BareRepo, head: str, wanted: str) -> str:
    if wanted:
        names = (f"refs/import/heads/{wanted}", f"refs/import/remotes/{wanted}", f"refs/import/tags/{wanted}", wanted)
        found = next((sha for name in names if (sha := repo.rev(name))), None)
        if found is None:
            raise UsageError(f"There is no branch, tag or commit {clean(wanted)!r} here.", "Name another --base.")
        return repo.merge_base(found, head) or found
    for name in _BASES:
        found = repo.rev(name)
        shared = repo.merge_base(found, head) if found else None
        if shared is not None:
            return shared
    raise UsageError("No main branch was found to compare with.", "Name one with --base.")


def _with_worktree(repo: BareRepo, top: Path, head: str) -> str:
    """A commit of what lies in the folder now: files that head tracks, and new ones that no .gitignore names."""
    rows = b"".join(_row(repo, top, entry, path) for path, entry in _candidates(repo, top, head))
    with tempfile.TemporaryDirectory(prefix="fleet-index-") as scratch:
        env = {"GIT_INDEX_FILE": f"{scratch}/index"}
        repo.call("update-index", "-z", "--index-info", input=rows, env=env)
        tree = repo.call("write-tree", env=env).stdout.decode().strip()
    return repo.commit_tree(tree, (head,), "Not committed", FLEET, FLEET, 0)


def _candidates(repo: BareRepo, top: Path, head: str) -> Iterator[tuple[str, TreeEntry | None]]:
    entries = {entry.path: entry for entry in repo.files(head)}
    yield from entries.items()
    with tempfile.TemporaryDirectory(prefix="fleet-index-") as scratch:
        env = {"GIT_INDEX_FILE": f"{scratch}/index"}
        repo.call("read-tree", head, env=env)
        # Our own git folder and settings: of the checkout only its .gitignore files are read.
        where = (f"--git-dir={repo.path}", f"--work-tree={top}", "-c", "core.bare=false")
        args = ("ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
        listed = git(*where, *args, cwd=top, env=env).stdout
    for name in listed.split(b"\0"):
        path = os.fsdecode(name)
        if path and not path.endswith("/") and path not in entries:
            yield path, None


def _row(repo: BareRepo, top: Path, entry: TreeEntry | None, path: str) -> bytes:
    if entry is not None and entry.mode == "160000":
        return f"{entry.mode} {entry.blob}\t".encode() + os.fsencode(path) + b"\0"
    found = _read(top, path)
    if found is None:
        return b""
    mode, data = found
    blob = repo.call("hash-object", "-w", "--stdin", "--no-filters", input=data).stdout.decode().strip()
    return f"{mode} {blob}\t".encode() + os.fsencode(path) + b"\0"


def _read(top: Path, path: str) -> tuple[str, bytes] | None:
    """Mode and content; None when there is no such file any more. No link is followed, in no part of the path."""
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, name = path.split("/")
        for part in parents:
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = deeper
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            return "120000", os.fsencode(os.readlink(name, dir_fd=folder))
        if not stat.S_ISREG(facts.st_mode):
            return None
        if facts.st_size > _LARGEST:
            raise UsageError(f"{clean(path)} is larger than 64 MiB.", "Leave it out by .gitignore.")
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(handle, "rb") as file:
            return ("100755" if facts.st_mode & 0o100 else "100644"), file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{clean(path)} cannot be read: {error.strerror}.", "Mend its permissions.") from error
    finally:
        os.close(folder)


def _show(record: GateRecord, write: Callable[[str], object]) -> None:
    name = record.name + (" (advice)" if record.mode is Mode.ADVISORY else "")
    outcome = record.outcome.value.replace("_", " ")
    brief = record.summary.partition(":")[0] if record.new else record.summary
    write(f"{_SIGN.get(record.outcome, '✗')} {name:<16} {outcome:<14} {record.seconds:7.1f} s  {clean(brief)}")
    shown = _ADVICE_SHOWN if record.mode is Mode.ADVISORY else len(record.new)
    for finding in record.new[:shown]:
        write(f"      {clean(described(finding))}")
    if len(record.new) > shown:
        write(f"      and {len(record.new) - shown} more")
    for test in record.reproduced:
        write(f"      shown by {clean(test)}: red on base, green now")


_SIGN = {
    Outcome.PASSED: "✓",
    Outcome.FIXED: "✓",
    Outcome.ALREADY_RED: "✓",
    Outcome.FLAKY: "✓",
    Outcome.NOT_RUN: "-",
    Outcome.NOT_CONFIGURED: "-",
}


def _conclude(gated: Gated, write: Callable[[str], object], as_json: bool) -> None:
    if as_json:
        for record in gated.records:
            write(encode({"v": 1, "type": "gate", "gate": record}).decode())
        write(encode({"v": 1, "type": "result", "verdict": gated.verdict, "plan": gated.plan}).decode())
        return
    verdict = gated.verdict
    word = "PASSED" if verdict.passed else "A PERSON MUST DECIDE" if verdict.needs else "RED"
    write(f"{word}: {clean(verdict.summary)}")


def _exit_code(verdict: VerdictRecord) -> int:
    if verdict.passed:
        return PASSED
    return PARKED if verdict.needs else RED
