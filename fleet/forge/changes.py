"""What differs between two trees: the files, their counts and their patches, within fixed sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fleet.forge.bare import BareRepo
from fleet.forge.gitcmd import NOBODY

MIB = 1024 * 1024
_STATUS = {"A": "added", "M": "modified", "D": "removed", "R": "renamed", "C": "copied", "T": "changed"}


@dataclass(frozen=True, slots=True)
class PatchLimits:
    """What is too big to be shown: blob bytes of one file and of all, and the number of files."""

    file_bytes: int = MIB
    total_bytes: int = 16 * MIB
    files: int = 300


@dataclass(frozen=True, slots=True)
class FileChange:
    """One changed file. ``patch`` is None when binary, too big, or when nothing but the mode or name changed."""

    path: str
    old_path: str
    status: str
    old_sha: str
    new_sha: str
    old_mode: str
    new_mode: str
    additions: int = 0
    deletions: int = 0
    binary: bool = False
    too_big: bool = False
    patch: str | None = None


def changed_files(repo: BareRepo, base: str, head: str, limits: PatchLimits | None = None) -> list[FileChange]:
    """Files that differ from ``base`` to ``head`` (commits or trees); patches within ``limits`` (None: no patches)."""
    common = ("-r", "-z", "-M", "--no-ext-diff", "--no-textconv", "--full-index")
    raw = repo.git.out(repo.path, "diff-tree", "--raw", *common, base, head, "--")
    numbers = repo.git.out(repo.path, "diff-tree", "--numstat", *common, base, head, "--")
    files = [
        replace(change, additions=added, deletions=deleted, binary=binary)
        for change, (added, deleted, binary) in zip(_raw(raw), _numstat(numbers), strict=True)
    ]
    return files if limits is None else _with_patches(repo, base, head, files, limits)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _raw(out: bytes) -> Iterator[FileChange]:
    parts = iter(out.split(b"\0"))
    for meta in parts:
        if not meta:
            return
        old_mode, new_mode, old_sha, new_sha, status = _text(meta).lstrip(":").split(" ")
        old_path = _text(next(parts))
        path = _text(next(parts)) if status[0] in "RC" else old_path
        yield FileChange(path, old_path, _STATUS.get(status[0], "changed"), old_sha, new_sha, old_mode, new_mode)


def _numstat(out: bytes) -> Iterator[tuple[int, int, bool]]:
    parts = iter(out.split(b"\0"))
    for line in parts:
        if not line:
            return
        added, deleted, path = line.split(b"\t", 2)
        if not path:  # a rename: the two names follow as parts of their own
            next(parts)
            next(parts)
        yield (0, 0, True) if added == b"-" else (int(added), int(deleted), False)


def _sizes(repo: BareRepo, files: Sequence[FileChange]) -> list[int]:
    ids = [sha for change in files for sha in (change.old_sha, change.new_sha)]
    out = repo.git.out(repo.path, "cat-file", "--batch-check", input="".join(f"{sha}\n" for sha in ids).encode())
    sizes = [int(line.split()[2]) if len(line.split()) == 3 else 0 for line in out.splitlines()]
    return [sizes[i] + sizes[i + 1] for i in range(0, len(sizes), 2)]


def _with_patches(
    repo: BareRepo, base: str, head: str, files: Sequence[FileChange], limits: PatchLimits
) -> list[FileChange]:
    shown: list[int] = []
    total = 0
    result = list(files)
    for index, (change, size) in enumerate(zip(files, _sizes(repo, files), strict=True)):
        if size > limits.file_bytes or total + size > limits.total_bytes or len(shown) >= limits.files:
            result[index] = replace(change, too_big=not change.binary)
        elif not change.binary:
            shown.append(index)
            total += size
    for index, patch in zip(shown, _patches(repo, base, head, [files[i] for i in shown]), strict=True):
        result[index] = replace(files[index], patch=patch or None)
    return result


def _patches(repo: BareRepo, base: str, head: str, files: Sequence[FileChange]) -> list[str]:
    """The hunks of each file, in order. Names can be odd, so chunks are counted and names are never parsed."""
    if not files:
        return []
    paths = sorted({path for change in files for path in (change.path, change.old_path)})
    out = _text(
        repo.git.out(
            repo.path, "diff-tree", "-p", "-r", "-M", "--no-ext-diff", "--no-textconv", "--full-index", "--no-color",
            base, head, "--", *paths,
        )
    )  # fmt: skip
    chunks = [chunk for chunk in ("\n" + out).split("\ndiff --git ")[1:]]
    # A changed file type is told as a removal and an addition: two chunks.
    wanted = [2 if change.status == "changed" else 1 for change in files]
    if len(chunks) != sum(wanted):
        return [""] * len(files)
    rest = iter(chunks)
    return ["\n".join(hunk for _ in range(count) if (hunk := _hunks(next(rest)))) for count in wanted]


def _hunks(chunk: str) -> str:
    start = chunk.find("\n@@ ")
    return chunk[start + 1 :].rstrip("\n") if start >= 0 else ""


__all__ = ["NOBODY", "FileChange", "PatchLimits", "changed_files"]
