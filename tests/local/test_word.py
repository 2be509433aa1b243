"""A command believes that the forge shows a person's word only from what was posted after it (I1)."""

from __future__ import annotations

import pytest

from fleet.core.events import Envelope, EventData, Note, RetryRequested, Source, StatusPosted
from fleet.local.word import Told
from tests.support.mutants import Mutant

WORD = RetryRequested("cli")


def said(data: EventData, source: Source) -> Envelope:
    return Envelope("default", "demo-1-abc", 0, 0, 0.0, data, source)


def posted(version: int) -> Envelope:
    return said(StatusPosted(version), Source.PUBLISHER)


def hears(told: Told, *events: Envelope) -> bool:
    told.hear(events)
    return told.shown


def follow() -> None:
    told = Told(WORD, 40)
    assert not hears(told, posted(39), said(Note("on"), Source.ATTEMPTS), said(WORD, Source.PEOPLE))
    assert not hears(told, posted(42)), "what was posted was read before the word"
    assert hears(told, said(Note("on"), Source.ATTEMPTS), posted(43))
    assert not hears(Told(WORD, 40), posted(41), said(WORD, Source.PEOPLE))


@pytest.mark.invariant("I1")
def test_only_what_was_posted_after_the_word_shows_it() -> None:
    follow()


def test_any_posting_that_counts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("fleet.local.word:Told.hear", "event.data.version >= self._at", "True").install(monkeypatch)
    with pytest.raises(AssertionError, match="before the word"):
        follow()
