"""The events of one attempt, on disk in order, so that any of them can be sent again (I14)."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

from fleet.core.codec import decode_event, encode_event
from fleet.core.events import AttemptFailed, AttemptStopped, ChangeReady, Envelope, Source

# An agent that talks without end, or a ledger that stays away, may fill this much; then only what decides the attempt
# is still kept.
MOST_BYTES = 16 * 1024 * 1024
MOST_EVENTS = 50_000
_ESSENTIAL = (ChangeReady, AttemptFailed, AttemptStopped)


class Spool:
    """Numbers events gap-free from 1 and keeps them. Not thread-safe: its owner locks."""

    def __init__(self, path: Path, most: int = MOST_BYTES, most_events: int = MOST_EVENTS) -> None:
        path.unlink(missing_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._ends = array("Q")
        self._most = most
        self._most_events = most_events
        self._dropped = 0

    @property
    def last(self) -> int:
        """The newest number; 0 when nothing was said yet."""
        return len(self._ends)

    def full(self, event: Envelope) -> bool:
        """Whether ``event`` must be left unsaid. What decides the attempt is never left unsaid."""
        if isinstance(event.data, _ESSENTIAL):
            return False
        return self._end(self.last) >= self._most or self.last >= self._most_events

    def drop(self) -> None:
        """Counts a word that was left unsaid."""
        self._dropped += 1

    def dropped(self) -> int:
        """How many words were left unsaid since this was asked last."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def append(self, event: Envelope) -> None:
        """Keeps ``event``, whose ``seq`` must be ``last + 1``."""
        raw = encode_event(event)
        start = self._end(self.last)
        os.pwrite(self._file, raw, start)
        self._ends.append(start + len(raw))

    def read(self, first: int, most: int) -> Sequence[Envelope]:
        """Up to ``most`` events from number ``first`` (≥ 1) on."""
        found = []
        for seq in range(first, min(first + most, self.last + 1)):
            start = self._end(seq - 1)
            found.append(decode_event(os.pread(self._file, self._ends[seq - 1] - start, start), Source.ATTEMPTS))
        return found

    def close(self) -> None:
        os.close(self._file)

    def _end(self, seq: int) -> int:
        return self._ends[seq - 1] if seq else 0
