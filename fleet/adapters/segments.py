"""Sealed segments and the ledger's stream, read as one log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fleet.core.archive import DamagedSegment, Row, Segment, position, sealed_upto, unpack
from fleet.core.codec import decode
from fleet.core.ports import Artifacts


class Segments:
    """``artifacts``: asked for when a segment is first read; None where no log is ever read that far back."""

    def __init__(self, artifacts: Callable[[], Artifacts] | None) -> None:
        self._artifacts = artifacts

    def joined(self, stream: Sequence[Row], sealed: bytes | None, after: str) -> list[Row]:
        """Everything sealed after the cursor, then the stream's rows. ``sealed``: the ledger's entry, read after them.

        Raises DamagedSegment.
        """
        segments = decode(sealed, tuple[Segment, ...]) if sealed else ()
        start = position(after)
        if position(sealed_upto(segments)[1]) <= start:
            return list(stream)
        before = position(stream[0][0]) if stream else (2**64, 0)
        rows: list[Row] = []
        for segment in segments:
            if position(segment.cursor) > start:
                rows += (row for row in self._rows(segment) if start < position(row[0]) < before)
        return [*rows, *stream]

    def _rows(self, segment: Segment) -> list[Row]:
        if self._artifacts is None:
            raise DamagedSegment(f"There is no artifact store to read {segment.name} from.")
        return unpack(segment, self._artifacts().get(segment.name))
