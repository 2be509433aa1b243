"""What an entry point decides about a running forge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from fleet.forge.store import ForgeStore


class VerbSeen(NamedTuple):
    """One thing that somebody asked the forge to do, whatever came of it."""

    login: str
    verb: str
    repo: str
    status: int


VerbLog = Callable[[VerbSeen], None]

# (stage, method, path) → a status to answer instead, DROP to cut the connection, or None to go on.
# The stage is "before" (nothing was done) or "after" (everything was done and is on disk).
Faults = Callable[[str, str, str], int | None]
DROP = 0


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """Settings of one server.

    ``base_url`` is the one address (``http://127.0.0.1:PORT``) that every link carries. ``faults`` and ``verb_log``
    are for tests and exist in-process only, as is ``anonymous``: public repositories are read without a token, as on
    GitHub. ``deliver``: whether webhooks are sent. Sizes in bytes.
    """

    store: ForgeStore
    base_url: str
    faults: Faults | None = None
    verb_log: VerbLog | None = None
    deliver: bool = True
    anonymous: bool = False
    max_body: int = 8 * 1024 * 1024
    max_push: int = 4 * 1024 * 1024 * 1024
