"""The real store beside the played one."""

from tests.supervisor.conftest import accounts, new_world, server, world

__all__ = ["accounts", "new_world", "server", "world"]
