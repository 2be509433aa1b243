"""Untrusted text in Markdown: shown, never obeyed. Pure.

Everything that an issue, a repository or a tool wrote stands in a code span: no mention, link, image, HTML or closing
keyword works in one, on GitHub and on the local forge. Only ``title`` leaves a span, with its keywords defused.
"""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_CLOSING = re.compile(r"(?i)\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)(\s*:?\s+)((?:[\w.-]+/[\w.-]+)?)(#|GH-)(?=\d)")


def visible(text: str, most: int) -> str:
    """One line of at most ``most`` characters; what is invisible or steers a terminal is written out (``\\u202e``)."""
    line = " ".join(text.split())
    shown = "".join(_written_out(c) if _is_hidden(c) else c for c in line[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1].rstrip() + "…"


def code(text: str, most: int = 200) -> str:
    """A code span that its content cannot leave."""
    inner = visible(text, most).replace("<!--", "<! --") or " "
    longest = max((len(run) for run in re.findall(r"`+", inner)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if inner[0] in "` " or inner[-1] in "` " else ""
    return f"{fence}{pad}{inner}{pad}{fence}"


def cell(text: str, most: int = 120) -> str:
    """A code span for a table. A table is cut at ``|`` before spans are seen, and no escape is the same everywhere."""
    return code(text.replace("|", "¦"), most)


def title(text: str, most: int = 200) -> str:
    """Plain text for a title: it becomes the message of a squashed merge, so it must not close other issues."""
    return _CLOSING.sub(lambda found: f"{found[1]}{found[2]}{found[3]}", visible(text, most))


def cap(text: str, most_bytes: int, note: str) -> str:
    """``text``, or as many of its lines as fit with ``note`` as the last one, in at most ``most_bytes`` of UTF-8."""
    if len(text.encode()) <= most_bytes:
        return text
    room = most_bytes - len(note.encode()) - 2
    kept: list[str] = []
    for line in text.split("\n"):
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join([*kept, "", note])


def _is_hidden(c: str) -> bool:
    return unicodedata.category(c) in _HIDDEN or c in _FILLERS or 0xFE00 <= ord(c) <= 0xFE0E


def _written_out(c: str) -> str:
    return f"\\u{ord(c):04x}" if ord(c) <= 0xFFFF else f"\\U{ord(c):08x}"
