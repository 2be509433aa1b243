"""A unified diff as numbered lines for a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.forge.changes import FileChange
from fleet.forge.web.visible import marked

_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)$")
FILE_LINES = 3000
PAGE_LINES = 20000
LINE_CHARS = 2000
_KINDS = {"+": "add", "-": "del", " ": "same"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its kind (hunk, add, del, same, note), its numbers before and after, its text."""

    kind: str
    old: int | None
    new: int | None
    text: str


@dataclass(frozen=True, slots=True)
class FileView:
    """One file as shown. ``note`` says why there are no lines, or that some are missing."""

    change: FileChange
    anchor: str
    lines: tuple[Line, ...]
    note: str


def lines_of(patch: str) -> Iterator[Line]:
    """The lines of a patch as ``changes`` gives it: hunks only."""
    old = new = 0
    for text in patch.split("\n"):
        if match := _HUNK.match(text):
            old, new = int(match[1]), int(match[2])
            yield Line("hunk", None, None, text)
        elif text.startswith("\\"):
            yield Line("note", None, None, text.lstrip("\\ "))
        else:
            kind = _KINDS.get(text[:1], "same")
            yield Line(kind, None if kind == "add" else old, None if kind == "del" else new, _cut(text[1:]))
            old += kind != "add"
            new += kind != "del"


def _cut(text: str) -> str:
    return text if len(text) <= LINE_CHARS else f"{text[:LINE_CHARS]}… ({len(text) - LINE_CHARS} more characters)"


def views(changes: Sequence[FileChange]) -> list[FileView]:
    """Every file; past the limits the lines are left out and said to be."""
    left = PAGE_LINES
    shown = []
    for number, change in enumerate(changes, 1):
        lines = tuple(lines_of(change.patch)) if change.patch else ()
        keep = lines[: min(FILE_LINES, left)]
        left -= len(keep)
        shown.append(FileView(change, f"file-{number}", keep, _note(change, len(lines) - len(keep))))
    return shown


def _note(change: FileChange, missing: int) -> str:
    if change.binary:
        return "Binary file, not shown."
    if change.too_big:
        return "Too large to be shown."
    if missing:
        return f"{missing} more lines are not shown."
    if change.patch is None and change.path != change.old_path:
        return "Renamed without changes."
    if change.patch is None and change.old_mode != change.new_mode:
        return "Empty, or only the mode changed."
    return "" if change.patch else "No text to be shown."


__all__ = ["FileView", "Line", "lines_of", "marked", "views"]
