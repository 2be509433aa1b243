"""A change as policy reads it: path by path, with both contents. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

SYMLINK = "120000"
SUBMODULE = "160000"
EXECUTABLE = "100755"
ABSENT = "000000"


class Weight(Enum):
    """REFUSE: the author can and must mend it. ASK: a person may allow it. TELL: for the evidence only."""

    REFUSE = "refuse"
    ASK = "ask"
    TELL = "tell"


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that policy has to say. ``path`` as git has it; ``line`` 0 where no line is meant."""

    weight: Weight
    code: str
    path: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Edit:
    """One changed path; a rename is a deletion and an addition. Contents are None where absent or above the limit."""

    path: str
    old_mode: str
    new_mode: str
    old: bytes | None
    new: bytes | None
    new_size: int = 0

    @property
    def added(self) -> bool:
        return self.old_mode == ABSENT

    @property
    def deleted(self) -> bool:
        return self.new_mode == ABSENT

    @property
    def binary(self) -> bool:
        return self.new is not None and b"\0" in self.new[:8000]

    @property
    def plain(self) -> bool:
        """A regular file on the new side, with content at hand."""
        return self.new_mode.startswith("100") and self.new is not None

    def added_lines(self) -> Iterator[tuple[int, str]]:
        """(number, text) of each line that the old side has not as often. A moved line is not new."""
        if not self.plain or self.binary:
            return
        known = Counter((self.old or b"").split(b"\n"))
        for number, line in enumerate((self.new or b"").split(b"\n"), 1):
            if known[line] > 0:
                known[line] -= 1
            else:
                yield number, line.decode("utf-8", "surrogateescape")


def text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "surrogateescape")
