"""Makes characters visible that hide text or change how it reads: escapes, bidi marks, zero-width ones (I21)."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

# Controls but tab and newline; soft hyphen, zero-width and bidi characters, fillers, tags, byte order mark, surrogates.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_NAMES = {"\x1b": "ESC", "\x00": "NUL", "\x07": "BEL", "\x08": "BS", "\r": "CR", "\x7f": "DEL", "\ufeff": "BOM"}


def name_of(char: str) -> str:
    return _NAMES.get(char, f"U+{ord(char):04X}")


def plain(text: str) -> str:
    """``text`` with every odd character written out, for places that take no markup. Line ends become newlines."""
    return _ODD.sub(lambda m: f"⟦{name_of(m[0])}⟧", text.replace("\r\n", "\n"))


def marked(text: str) -> Markup:
    """``text`` as HTML, escaped, with every odd character as a marked name."""
    pieces, last = [], 0
    for match in _ODD.finditer(text):
        pieces.append(escape(text[last : match.start()]))
        pieces.append(Markup('<span class="odd">{}</span>').format(name_of(match[0])))
        last = match.end()
    pieces.append(escape(text[last:]))
    return Markup("").join(pieces)
