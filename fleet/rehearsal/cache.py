"""What a provider would read from its cache of prefixes: the same rules, so that a rehearsal counts as a real one.

Anthropic caches where the request says so (``cache_control``) and looks back twenty blocks from there; OpenAI caches
every long prefix by itself, in steps of 128 tokens. Neither caches less than 1024 tokens. Times of expiry are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BYTES_PER_TOKEN = 4
_LEAST = 1024
_STEP = 128
_LOOK_BACK = 20
_MOST_KEPT = 50_000
_MARK = "cache_control"


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of a request: all of them, those read from the cache, those written to it."""

    total: int
    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The beginning of a request up to the end of one of its blocks."""

    digest: bytes
    tokens: int
    marked: bool


class PrefixCache:
    """Of one provider. Not safe for threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def count(self, asked: Mapping[str, Any], by_marks: bool) -> Counted:
        """Counts a request and remembers what it writes. ``by_marks``: as Anthropic does, otherwise as OpenAI."""
        prefixes = list(_prefixes(asked))
        return self._messages(prefixes) if by_marks else self._openai(prefixes)

    def _messages(self, prefixes: list[_Prefix]) -> Counted:
        total = prefixes[-1].tokens
        marks = [at for at, one in enumerate(prefixes) if one.marked and one.tokens >= _LEAST]
        seen = [
            prefixes[at].tokens
            for mark in marks
            for at in range(max(0, mark - _LOOK_BACK + 1), mark + 1)
            if prefixes[at].digest in self._known
        ]
        read = max(seen, default=0)
        written = max((prefixes[at].tokens for at in marks), default=0)
        self._keep(prefixes[at].digest for at in marks)
        return Counted(total, read, max(0, written - read))

    def _openai(self, prefixes: list[_Prefix]) -> Counted:
        total = prefixes[-1].tokens
        read = max((one.tokens for one in prefixes if one.digest in self._known), default=0) // _STEP * _STEP
        self._keep(one.digest for one in prefixes)
        return Counted(total, read if read >= _LEAST else 0)

    def _keep(self, digests: Iterator[bytes]) -> None:
        for digest in digests:
            self._known[digest] = None
            self._known.move_to_end(digest)
        while len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)


def _prefixes(asked: Mapping[str, Any]) -> Iterator[_Prefix]:
    """Tools come first, then the system's words, then the conversation: the order in which providers read."""
    sum_, size = hashlib.sha256(str(asked.get("model")).encode()), 0
    for block in _blocks(asked):
        marked = isinstance(block, Mapping) and _MARK in block
        plain = {name: value for name, value in block.items() if name != _MARK} if marked else block
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        sum_.update(len(text).to_bytes(8, "big") + text)
        size += len(text)
        yield _Prefix(sum_.digest(), -(-size // BYTES_PER_TOKEN), marked)


def _blocks(asked: Mapping[str, Any]) -> Iterator[Any]:
    yield asked.get("tools", [])
    for part in (asked.get("system"), asked.get("instructions")):
        yield from part if isinstance(part, list) else [] if part is None else [part]
    items = asked.get("messages", asked.get("input", []))
    for item in items if isinstance(items, list) else [items]:
        content = item.get("content") if isinstance(item, Mapping) else None
        if isinstance(content, list):
            yield from ({"role": item.get("role"), **block} for block in content if isinstance(block, Mapping))
        else:
            yield item
