"""``dataclasses.replace`` for the hot path: a view has some thirty fields, and every event replaces it.

A frozen dataclass sets its fields one slow call at a time. The copy is made as an object of an open twin with the same
slots, which takes plain assignments, and becomes one of its class when it is whole. That is seven times faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace
else:
    from dataclasses import fields
    from dataclasses import replace as _replace

    _KNOWN: dict[tuple[Any, ...], Any] = {}

    def replace(value, /, **changes):
        """A copy of a frozen dataclass. Raises TypeError for an unknown name."""
        known = _KNOWN.get((value.__class__, *changes))
        if known is None:
            known = _known(value.__class__, tuple(changes))
        return known(value, **changes)

    def _known(kind, changed):
        """A function that copies a ``kind`` and takes ``changed`` by name, written for exactly these names."""
        names = [one.name for one in fields(kind)]
        plain = kind.__bases__ == (object,) and not hasattr(kind, "__post_init__")
        if not plain or kind.__dict__.get("__slots__") != tuple(names) or not set(changed) <= set(names):
            made = _replace  # it knows all kinds, and what to say about an unknown name
        else:
            lines = [f"def copy(value, {', '.join(changed)}):", "  new = make(twin)"]
            lines += [f"  new.{name} = {name if name in changed else f'value.{name}'}" for name in names]
            lines += ["  new.__class__ = kind", "  return new"]
            room = {"twin": type(kind.__name__, (), {"__slots__": kind.__slots__}), "kind": kind}
            exec("\n".join(lines), {**room, "make": object.__new__}, room)
            made = room["copy"]
        _KNOWN[kind, *changed] = made
        return made


__all__ = ["replace"]
