"""``dataclasses.replace`` for the hot path: a view has some thirty fields, and every event replaces it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace
else:
    from dataclasses import fields
    from operator import attrgetter

    _KNOWN: dict[type, tuple[dict[str, int], Any]] = {}

    def replace(value, /, **changes):
        """A copy of a dataclass whose ``__init__`` sets every field. Raises KeyError for an unknown name."""
        kind = type(value)
        places, read = _KNOWN.get(kind) or _known(kind)
        values = list(read(value))
        for name, changed in changes.items():
            values[places[name]] = changed
        return kind(*values)

    def _known(kind):
        names = [one.name for one in fields(kind)]
        known = _KNOWN[kind] = ({name: place for place, name in enumerate(names)}, attrgetter(*names))
        return known


__all__ = ["replace"]
