"""Text of tools and repositories made fit for JSON, logs and terminals. Pure."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Bytes that are not UTF-8, control and direction-changing characters become escapes; newline and tab stay."""
    text = text.encode("utf-8", "surrogateescape" if _only_bytes(text) else "backslashreplace").decode(
        "utf-8", "backslashreplace"
    )
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _only_bytes(text: str) -> bool:
    """Whether every surrogate in it stands for an undecodable byte."""
    return not any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in text)
