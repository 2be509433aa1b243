"""The hand-over: what an agent left in its working copy becomes one commit, made and owned by the fleet.

Called only after the agent's process tree is dead. The same tree always gives the same commit SHA.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.adapters.git import BareRepo, Person, TreeEntry, printable
from fleet.core.story import CHANGE_REF
from fleet.core.ticket import Ticket
from workers.litter import BaseIgnores, is_git_folder, is_litter_name
from workers.tree import Caps, Found, TreeRefused, walk

AUTHOR = Person("Fleet", "fleet@localhost")
REF = CHANGE_REF
_SUBMODULE = "160000"
_MOST_LEFT_OUT = 100
_SUBJECT = 72
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Change:
    """One commit on ``base_sha``, in the bundle file. ``left_out`` are printable paths of new files not taken."""

    commit: str
    tree: str
    base_sha: str
    files: int
    insertions: int
    deletions: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs from base: content to write, paths to remove, and what was left out."""

    written: tuple[Found, ...]
    removed: tuple[str, ...]
    left_out: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.written or self.removed)


def compare(
    mirror: BareRepo, base_sha: str, folder: Path, owner: int | None = None, caps: Caps | None = None
) -> Difference:
    """Walks ``folder`` and compares it with the base commit. Raises TreeRefused when it cannot be handed over.

    Files that base tracks always count. New ones count unless base's ignore rules or the list of litter say no.
    """
    base = {entry.path: entry for entry in mirror.files(base_sha)}
    view = _BaseView(base)
    found = {file.path: file for file in walk(os.fspath(folder), caps or Caps(), view.skip, view.blob, owner)}
    new = [path for path in found if path not in base]
    ignores = BaseIgnores(mirror, base_sha, [(entry.path, entry.mode, entry.blob) for entry in base.values()])
    ignored = ignores.ignored(new)
    written = tuple(
        file
        for path, file in found.items()
        if path not in ignored and (path not in base or (file.sha, file.mode) != (base[path].blob, base[path].mode))
    )
    removed = tuple(path for path, entry in base.items() if path not in found and entry.mode != _SUBMODULE)
    left = sorted({*view.left_out, *ignored})
    return Difference(written, removed, _left_out(left))


def commit(mirror: BareRepo, base_sha: str, difference: Difference, ticket: Ticket, bundle: Path) -> Change:
    """Builds the commit in a private repository that borrows the mirror's objects, and writes it to ``bundle``."""
    contents = _contents(mirror, difference)
    with tempfile.TemporaryDirectory(prefix="fleet-handover-") as scratch:
        repo = BareRepo.init(Path(scratch, "change.git"))
        (repo.path / "objects" / "info").mkdir(exist_ok=True)
        (repo.path / "objects" / "info" / "alternates").write_text(f"{mirror.path / 'objects'}\n")
        stream = b"".join(_stream(base_sha, difference, contents, ticket))
        repo.call("fast-import", "--quiet", "--date-format=raw", "--done", input=stream)
        sha = repo.rev(REF)
        if sha is None:
            raise TreeRefused("git did not take the change in.")
        numbers = repo.numstat(base_sha, sha)
        repo.bundle(bundle, REF, (base_sha,))
        return Change(
            sha,
            repo.tree(sha),
            base_sha,
            len(numbers),
            sum(row.insertions or 0 for row in numbers),
            sum(row.deletions or 0 for row in numbers),
            difference.left_out,
        )


def message(ticket: Ticket) -> str:
    """The commit message: one line from the ticket's title, its number, and the sign-off."""
    title = _CONTROL.sub(" ", ticket.title).strip() or "Change"
    room = _SUBJECT - len(f" (#{ticket.number})")
    subject = title if len(title) <= room else title[: room - 1].rstrip() + "…"
    agent = _CONTROL.sub(" ", ticket.agent)[:200]
    return (
        f"{subject} (#{ticket.number})\n\nMade by the fleet for {ticket.issue} with {agent}\n\n"
        f"Signed-off-by: {AUTHOR.name} <{AUTHOR.email}>\n"
    )


class _BaseView:
    """What base says about a path while the tree is walked, and what is left out because of it."""

    def __init__(self, base: Mapping[str, TreeEntry]) -> None:
        self._base = base
        self._folders = {path[:at] for path in base for at, c in enumerate(path) if c == "/"}
        self._submodules = {entry.path for entry in base.values() if entry.mode == _SUBMODULE}
        self.left_out: list[str] = []

    def skip(self, path: str, is_folder: bool) -> bool:
        name = path.rsplit("/", 1)[-1]
        if is_git_folder(name):
            if "/" in path or not is_folder:
                self.left_out.append(path)
            return True
        if path in self._submodules:
            return True
        if path in self._base or (is_folder and path in self._folders):
            return False
        if is_litter_name(name):
            self.left_out.append(path + "/" if is_folder else path)
            return True
        return False

    def blob(self, path: str) -> str | None:
        entry = self._base.get(path)
        return entry.blob if entry else None


def _contents(mirror: BareRepo, difference: Difference) -> dict[str, bytes]:
    """Content by path; a file whose mode alone changed has its content in the mirror."""
    missing = mirror.blobs((file.sha for file in difference.written if file.content is None), limit=1 << 31)
    return {f.path: f.content if f.content is not None else missing[f.sha] for f in difference.written}


def _stream(base_sha: str, difference: Difference, contents: Mapping[str, bytes], ticket: Ticket) -> Iterator[bytes]:
    text = message(ticket).encode()
    who = f"{AUTHOR.name} <{AUTHOR.email}> {int(ticket.accepted_at)} +0000"
    yield f"commit {REF}\nauthor {who}\ncommitter {who}\ndata {len(text)}\n".encode() + text
    yield f"from {base_sha}\n".encode()
    for path in sorted(difference.removed):
        yield b"D " + quoted(path) + b"\n"
    for file in sorted(difference.written, key=lambda file: file.path):
        content = contents[file.path]
        yield b"M %s inline %s\ndata %d\n" % (file.mode.encode(), quoted(file.path), len(content)) + content + b"\n"
    yield b"done\n"


def quoted(path: str) -> bytes:
    """``path`` as fast-import reads any bytes: in quotes, with octal escapes."""
    plain = (bytes([b]) if 0x20 < b < 0x7F and b not in b'"\\' else b"\\%03o" % b for b in os.fsencode(path))
    return b'"' + b"".join(plain) + b'"'


def _left_out(paths: Iterable[str]) -> tuple[str, ...]:
    names = [printable(path) for path in paths]
    if len(names) > _MOST_LEFT_OUT:
        return (*names[:_MOST_LEFT_OUT], f"and {len(names) - _MOST_LEFT_OUT} more")
    return tuple(names)
