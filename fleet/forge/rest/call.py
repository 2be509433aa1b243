"""One API call as a handler sees it, and what a handler may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.forge.access import Caller
from fleet.forge.errors import ApiError, invalid
from fleet.forge.store import Repo, Tx

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and what is sent as JSON (None: an empty body)."""

    data: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Listing:
    """A paged answer. ``wrap`` names the key when GitHub puts the list into an object with ``total_count``."""

    rows: Sequence[Any]
    render: Callable[[Any], Json]
    wrap: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """Typed access to what was asked. Every getter raises 422 when the value has the wrong type."""

    tx: Tx
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    level: int = 0
    the_repo: Repo | None = None
    resource: str = field(default="Request")

    @property
    def repo(self) -> Repo:
        """The repository of the path; the dispatcher has checked that the caller sees it."""
        assert self.the_repo is not None
        return self.the_repo

    @property
    def fields(self) -> Json:
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise ApiError(400, "Body should be a JSON object")
        return self.body

    def number(self, name: str = "number") -> int:
        """A number of the path; what is no number is not found."""
        text = self.path[name]
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise ApiError(404, "Not Found")
        return int(text)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.fields.get(name, default)
        if value is None:
            raise invalid(self.resource, name, "missing_field")
        if not isinstance(value, str):
            raise invalid(self.resource, name)
        return value

    def maybe(self, name: str) -> str | None:
        """Text, or None when absent or null."""
        return None if self.fields.get(name) is None else self.text(name)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise invalid(self.resource, name)
        return value

    def texts(self, name: str) -> list[str]:
        """A list of names, given as strings or as objects with ``name``."""
        return as_texts(self.fields.get(name) or [], self.resource, name)


def as_texts(value: Any, resource: str, name: str) -> list[str]:
    """Raises 422 unless ``value`` is a list of strings or of objects with ``name``."""
    if not isinstance(value, list):
        raise invalid(resource, name)
    named = [item.get("name") if isinstance(item, dict) else item for item in value]
    texts = [item for item in named if isinstance(item, str)]
    if len(texts) != len(named):
        raise invalid(resource, name)
    return texts
