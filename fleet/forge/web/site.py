"""Pages."""

from __future__ import annotations

from starlette.routing import Route

from fleet.forge.settings import ForgeSettings


class Site:
    """Pages."""

    def __init__(self, settings: ForgeSettings) -> None:
        self._settings = settings

    def routes(self) -> list[Route]:
        return []
