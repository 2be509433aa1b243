"""Secrets never reach a log, in whatever form they come along (I7). Pure but for the list of known secrets."""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import quote

STAND_IN = "[secret]"
_SHORTEST = 6


class Redactor:
    """Replaces every registered secret, and what common encodings make of it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: tuple[str, ...] = ()

    def register(self, secret: str) -> None:
        """From now on it is replaced. Shorter than 6 characters it is ignored: it would eat ordinary words."""
        if len(secret) < _SHORTEST:
            return
        with self._lock:
            # The longest first, so that a form inside another leaves nothing of the outer one behind.
            self._forms = tuple(sorted({*self._forms, *forms(secret)}, key=lambda form: (-len(form), form)))

    def clean(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, STAND_IN)
        return text


def forms(secret: str) -> frozenset[str]:
    """The secret as it is, reversed, in hex, URL-encoded and in base64 at any offset, each also as in a JSON string."""
    raw = secret.encode()
    found = {secret, secret[::-1], raw.hex(), raw.hex().upper(), quote(secret, safe="")}
    for offset in range(3):
        # Inside a longer text the first and last characters of the encoding also hold bits of the neighbours.
        coded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        inner = coded[(0, 2, 3)[offset] : len(coded) - (1 if (len(raw) + offset) % 3 else 0)]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    found |= {json.dumps(form)[1:-1] for form in found}
    return frozenset(form for form in found if len(form) >= _SHORTEST)
