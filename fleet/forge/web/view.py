"""What a page's view gets and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.forge.access import Caller, level_of
from fleet.forge.errors import not_found
from fleet.forge.store import Repo, Tx


@dataclass(frozen=True, slots=True)
class Page:
    """A template with its data, or a redirect."""

    template: str
    data: dict[str, Any]
    redirect: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One look at a page by a person."""

    tx: Tx
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]

    def repo(self) -> tuple[Repo, int]:
        """The repository of the path and the person's level. Raises 404 when it may not be seen."""
        found = self.tx.repo(self.path["owner"], self.path["repo"])
        level = 0 if found is None else level_of(self.tx.rows, found.id, found.full_name, self.caller)
        if found is None or level == 0:
            raise not_found()
        return found, level

    def number(self) -> int:
        """The issue or pull request number of the path. Raises 404 when it is none."""
        text = self.path["number"]
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise not_found()
        return int(text)
