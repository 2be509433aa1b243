"""Removing what nobody needs any more from a home."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from fleet.core.archive import FOLDER
from fleet.core.errors import TemporaryError, UsageError
from fleet.local.client import Client
from fleet.local.reading import reading

# A segment that is just being stored is not in the ledger yet.
LEAST_AGE = 3600.0


def remove_old_segments(fleet: Client) -> tuple[int, int]:
    """(how many, bytes): sealed logs that the ledger does not know of, when they are older than ``ledger.keep_days``.

    What the ledger knows of is kept, whatever its age: the ticket may live. Without its word nothing is removed.
    """
    artifacts, now = fleet.wiring.artifacts, fleet.wiring.clock.now()
    before = now - max(fleet.settings.ledger.keep_days * 86_400, LEAST_AGE)
    files = list(artifacts.names(FOLDER))
    if not unneeded(files, set(), before):
        return 0, 0
    try:
        with reading(fleet) as home:
            known = home.ledger().all_sealed()
    except (TemporaryError, UsageError):
        return 0, 0
    sizes = [artifacts.remove(name) for name in unneeded(files, known, before)]
    return len(sizes), sum(sizes)


def unneeded(files: Iterable[tuple[str, float]], known: AbstractSet[str], before: float) -> list[str]:
    """Of (name, when it was stored) those that are old and that the ledger does not know of. Pure."""
    return [name for name, at in files if at < before and name not in known]
