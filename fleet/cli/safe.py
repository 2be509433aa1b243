"""Text from outside, made harmless for a terminal. Pure, and without any library: errors are told before one loads."""

from __future__ import annotations

import re

# Everything but newline and tab that a terminal could act on, what reorders text, and what nobody can see.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


def safe(text: str) -> str:
    """``text`` with every control and bidirectional character made visible: it came from a repository (I21)."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
