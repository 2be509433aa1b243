"""The supervisor's world: a real store, real supervisors, played workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.supervisor.conftest import accounts, new_world, server, world
from tests.telemetry.collector import Collector

__all__ = ["accounts", "collector", "new_world", "server", "world"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    made.start()
    yield made
    made.close()
