"""One fleet per module: a start costs seconds, and a fleet that served other tickets is the harder case."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Fleet, fleet_home, repository

# A shell that starts the tests in the background lets everything below them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_home() as one:
        yield one


@pytest.fixture
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small repository whose folder is named like the test."""
    return repository(tmp_path / request.node.originalname.removeprefix("test_")[:40])
