"""What models cost, once more beside the store: a line on disk before each call, another when it has ended.

A store that is lost takes its book with it. What stands here is taken off every limit of the next one (I8). One file a
day and incarnation; the ledger's own book is never read from here.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fleet.core.codec import CodecError, decode, encode
from fleet.core.journal import Entry, Lost, lost
from fleet.core.spend import Reservation, Usage

# This month and the one before it; of an older call the status comment of its ticket tells.
KEEP_DAYS = 62
_NAME = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)\.(?P<incarnation>[A-Za-z0-9_-]*)\.jsonl")


class SpendJournal:
    """Below ``folder``. Any number of processes may write; a line is one write to the end of a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[tuple[tuple[str, int], ...], Lost] = ((), Lost())

    def set_aside(self, incarnation: str, call: Reservation) -> None:
        """On disk when this returns. Raises OSError: then the call must not be made."""
        self._write(incarnation, Entry(call, call.micros, call.tokens), durable=True)

    def settle(self, incarnation: str, call: Reservation, micros: int, usage: Usage) -> None:
        """What it used. A line that is lost costs nothing but precision: the call then counts in full."""
        with suppress(OSError):
            self._write(incarnation, Entry(call, micros, usage.total), durable=False)

    def lost(self, incarnation: str) -> Lost:
        """What every other ledger of this home let be spent. Raises OSError."""
        files = [(path, found["incarnation"]) for path, found in self._files()]
        others = [path for path, whose in files if whose != incarnation]
        state = tuple((path.name, path.stat().st_size) for path in others)
        if state != self._known[0]:
            self._known = (state, lost(entry for path in others for entry in _entries(path)))
        return self._known[1]

    def _write(self, incarnation: str, entry: Entry, durable: bool) -> None:
        path = self._folder / f"{entry.reservation.day}.{incarnation}.jsonl"
        fresh = not path.exists()
        if fresh:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._forget(entry.reservation.day)
        # The newline comes first: after a line that was cut off by a crash the next one is whole all the same.
        line = b"\n" + encode(entry)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.write(file, line) < len(line):
                raise OSError("the disk is full")
            if durable:
                os.fdatasync(file)
        finally:
            os.close(file)
        if fresh and durable:
            _sync_folder(self._folder)

    def _files(self) -> Iterator[tuple[Path, re.Match[str]]]:
        for path in sorted(self._folder.glob("*.jsonl")):
            if found := _NAME.fullmatch(path.name):
                yield path, found

    def _forget(self, day: str) -> None:
        oldest = (datetime.date.fromisoformat(day) - datetime.timedelta(days=KEEP_DAYS)).isoformat()
        for path, found in self._files():
            if found["day"] < oldest:
                path.unlink(missing_ok=True)


def _entries(path: Path) -> Iterator[Entry]:
    for line in path.read_bytes().split(b"\n"):
        with suppress(CodecError):  # cut off by a crash: its call was never made
            yield decode(line, Entry)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
