"""Reading the record of a home whether or not its fleet runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fleet.core.errors import UsageError
from fleet.local.client import Client


@contextmanager
def reading(fleet: Client) -> Iterator[Client]:
    """``fleet`` with a store that answers. Of a stopped home only the store is started, and stopped afterwards.

    Raises UsageError for a home in which there never was a fleet.
    """
    if fleet.attach_if_running() is not None or fleet.home.redis_url:
        yield fleet
        return
    if not (fleet.home.layout.redis / "appendonlydir").exists():
        raise UsageError(f"There is no record in {fleet.home.layout.home}.", "Is FLEET_HOME the one you mean?")
    store = fleet.wiring.embedded
    found = store.running()
    store.ensure()
    try:
        yield fleet
    finally:
        # A host that came up meanwhile uses the same server, and keeps it.
        if not found and not fleet.home.host_runs():
            store.stop()
