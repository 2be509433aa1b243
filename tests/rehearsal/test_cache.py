"""The scripted model counts cached tokens as providers do: by marks, or by the longest prefix."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.rehearsal.cache import PrefixCache

MARK = {"cache_control": {"type": "ephemeral"}}
LONG = "word " * 2000


def said(text: str, mark: bool = False, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text, **(MARK if mark else {})}]}


def asked(*messages: dict[str, Any], system: str = LONG) -> dict[str, Any]:
    return {"model": "m", "system": [{"type": "text", "text": system, **MARK}], "messages": list(messages)}


def test_what_was_marked_before_is_read_and_what_is_marked_now_is_written() -> None:
    cache = PrefixCache()
    first = cache.count(asked(said(LONG, mark=True)), by_marks=True)
    assert first.read == 0 and first.total == first.written > 4900
    turn = (said(LONG), said("ok", role="assistant"), said(LONG, mark=True))
    second = cache.count(asked(*turn), by_marks=True)
    assert second.read == first.written
    assert second.written == second.total - second.read > 2400
    assert cache.count(asked(*turn), by_marks=True).read == second.total


@pytest.mark.parametrize("change", ["system", "earlier words"])
def test_a_changed_beginning_is_not_read(change: str) -> None:
    cache = PrefixCache()
    first = cache.count(asked(said(LONG, mark=True)), by_marks=True)
    later = said("ok", role="assistant"), said("go on", mark=True)
    again = asked(said(LONG), *later, system=LONG + ".") if change == "system" else asked(said(LONG + "!"), *later)
    counted = cache.count(again, by_marks=True)
    assert counted.read in (0, first.total - len(LONG) // 4 - 12) or counted.read < first.total // 2 + 20


def test_without_a_mark_nothing_is_cached_and_short_ones_never_are() -> None:
    cache = PrefixCache()
    bare = {"model": "m", "messages": [said(LONG)]}
    for _ in range(2):
        assert cache.count(bare, by_marks=True).read == 0
        short = cache.count(asked(said("hi", mark=True), system="be kind"), by_marks=True)
        assert (short.read, short.written) == (0, 0)


def test_the_longest_prefix_counts_in_steps_of_128() -> None:
    cache = PrefixCache()
    items = [{"role": "user", "content": LONG}]
    first = cache.count({"model": "m", "instructions": LONG, "input": items}, by_marks=False)
    longer = [*items, {"type": "function_call", "name": "read"}, {"type": "function_call_output", "output": "x" * 4000}]
    second = cache.count({"model": "m", "instructions": LONG, "input": longer}, by_marks=False)
    assert first.read == 0 and second.read == first.total // 128 * 128 and second.written == 0
    assert cache.count({"model": "other", "instructions": LONG, "input": longer}, by_marks=False).read == 0
