from __future__ import annotations

from pathlib import Path

import pytest

from fleet.local.home import Home
from tests.publisher.conftest import redis_server, world

__all__ = ["home", "redis_server", "world"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home({"FLEET_HOME": str(tmp_path / "home")})
    made.make()
    return made
