from __future__ import annotations

from tests.publisher.conftest import redis_server, world

__all__ = ["redis_server", "world"]
