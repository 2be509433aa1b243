"""The events of one attempt, on disk in order, so that any of them can be sent again (I14).

What a full or broken disk does not take stays in memory, so that an attempt can still say how it ended.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fleet.core.codec import decode_event, encode_event
from fleet.core.events import AttemptFailed, AttemptStopped, ChangeReady, Envelope, Source

# An agent that talks without end, or a ledger that stays away, may fill this much; then only what decides the attempt
# is still kept.
MOST_BYTES = 16 * 1024 * 1024
MOST_EVENTS = 50_000
# In memory there is less room.
MOST_KEPT = 1024 * 1024
ESSENTIAL = (ChangeReady, AttemptFailed, AttemptStopped)


class Spool:
    """Numbers events gap-free from 1 and keeps them. Not thread-safe: its owner locks."""

    def __init__(
        self, path: Path, most: int = MOST_BYTES, most_events: int = MOST_EVENTS, most_kept: int = MOST_KEPT
    ) -> None:
        self._file = -1
        with suppress(OSError):
            path.unlink(missing_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._ends = array("Q")
        # Events, by number, that the disk did not take; each ends on disk where the one before it does.
        self._kept: dict[int, bytes] = {}
        self._kept_bytes = 0
        self._most = most
        self._most_events = most_events
        self._most_kept = most_kept
        self._dropped = 0

    @property
    def last(self) -> int:
        """The newest number; 0 when nothing was said yet."""
        return len(self._ends)

    def full(self, event: Envelope) -> bool:
        """Whether ``event`` must be left unsaid. What decides the attempt is never left unsaid."""
        if isinstance(event.data, ESSENTIAL):
            return False
        return self._end(self.last) >= self._most or self.last >= self._most_events

    def drop(self, words: int = 1) -> None:
        """Counts words that were left unsaid."""
        self._dropped += words

    def dropped(self) -> int:
        """How many words were left unsaid since this was asked last."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def append(self, event: Envelope, must: bool = False) -> bool:
        """Keeps ``event``, whose ``seq`` must be ``last + 1``; False when neither disk nor memory has room for it.

        ``must``: it has room in any case.
        """
        raw = encode_event(event)
        start = self._end(self.last)
        if self._written(raw, start):
            self._ends.append(start + len(raw))
            return True
        if not must and self._kept_bytes + len(raw) > self._most_kept:
            return False
        self._ends.append(start)
        self._kept[event.seq] = raw
        self._kept_bytes += len(raw)
        return True

    def _written(self, raw: bytes, at: int) -> bool:
        """A disk that fills up takes a part; the next event is written over it."""
        try:
            return os.pwrite(self._file, raw, at) == len(raw)
        except OSError:
            return False

    def read(self, first: int, most: int) -> Sequence[Envelope]:
        """Up to ``most`` events from number ``first`` (≥ 1) on."""
        found = []
        for seq in range(first, min(first + most, self.last + 1)):
            start = self._end(seq - 1)
            raw = self._kept.get(seq) or os.pread(self._file, self._ends[seq - 1] - start, start)
            found.append(decode_event(raw, Source.ATTEMPTS))
        return found

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def _end(self, seq: int) -> int:
        return self._ends[seq - 1] if seq else 0
