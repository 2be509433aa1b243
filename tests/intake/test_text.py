"""Issue text: what nobody can see is taken out and counted; what everybody can see stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.errors import UsageError
from fleet.intake import text as issue_text
from fleet.intake.text import MOST_CHARS, clean, decode, parse


@pytest.mark.invariant("I21")
@pytest.mark.parametrize(
    ("body", "seen", "hidden"),
    [
        ("plain\n\n- [ ] text", "plain\n\n- [ ] text", 0),
        ("zero\u200bwidth\u200d\ufeff", "zerowidth", 3),
        ("\u202eevil\u202c \u2066x\u2069", "evil x", 4),
        ("tags \U000e0041\U000e0042", "tags", 2),
        ("filler \u3164\u115f\u2800", "filler", 3),
        ("bell \x07 \x1b[31mred\x1b[0m \x1b]0;title\x07 end", "bell  red  end", 20),
        ("a\r\nb\rc", "a\nb\nc", 0),
        ("é ☃ 漢字 👍", "é ☃ 漢字 👍", 0),
        ("private \ue000 and soft\u00adhyphen", "private  and softhyphen", 2),
    ],
)
def test_hidden_characters(body: str, seen: str, hidden: int) -> None:
    found = clean("Title", body)
    assert (found.body, found.hidden, found.comments) == (seen, hidden, 0)


@pytest.mark.invariant("I21")
@pytest.mark.parametrize(
    ("body", "seen", "comments"),
    [
        ("a <!-- do evil --> b", "a  b", 1),
        ("a <!-- never\nclosed", "a", 1),
        ("a <\u200b!-- split by nothing -->", "a", 1),
        ("```\n<!-- shown -->\n```\n<!-- not -->end", "```\n<!-- shown -->\n```\nend", 1),
        ("<!-- ``` -->\n<!-- x -->\n```\ncode", "```\ncode", 2),
        ("<!--\n```\nhidden by the comment\n```\n-->\nafter", "after", 1),
    ],
)
def test_hidden_comments(body: str, seen: str, comments: int) -> None:
    found = clean("Title", body)
    assert (found.body, found.comments) == (seen, comments)


@pytest.mark.invariant("I21")
@given(st.text(), st.text())
def test_nothing_invisible_is_left_and_cleaning_twice_is_cleaning_once(title: str, body: str) -> None:
    try:
        found = clean(title, body)
    except UsageError:
        return
    assert all(c.isprintable() for c in found.title)
    assert all(c in "\n\t" or c.isprintable() or c.isspace() for c in found.body)
    again = clean(found.title, found.body)
    assert (again.title, again.body, again.hidden) == (found.title, found.body, 0)


@pytest.mark.invariant("I21")
def test_mutant_that_keeps_hidden_characters_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue_text, "_is_hidden", lambda c: False)
    assert "\u202e" in clean("t", "\u202eevil").body


@pytest.mark.parametrize("title", ["", "  \n", "\u200b\u200b", "\x1b[0m"])
def test_an_empty_title(title: str) -> None:
    with pytest.raises(UsageError, match=r"The issue is empty\."):
        clean(title, "body")


def test_too_long() -> None:
    with pytest.raises(UsageError, match="at most 65536"):
        clean("t", "x" * MOST_CHARS)


@pytest.mark.parametrize(
    ("text", "title", "body"),
    [
        ("Do it", "Do it", ""),
        ("\n\n# Do it #\n\nBecause.\n", "Do it", "\nBecause."),
        ("\ufeffDo it\nnow", "Do it", "now"),
        ("#hashtag", "#hashtag", ""),
    ],
)
def test_a_file_with_an_issue(text: str, title: str, body: str) -> None:
    assert parse(text) == (title, body)


def test_a_first_line_too_long_for_a_title_stays_in_the_body() -> None:
    title, body = parse("word " * 100 + "\nmore")
    found = clean(title, body)
    assert len(found.title) <= 200 and found.body.startswith("word word") and found.body.endswith("more")


@pytest.mark.parametrize("text", ["", "\n \n\t\n", "\ufeff"])
def test_an_empty_file(text: str) -> None:
    with pytest.raises(UsageError, match=r"The issue is empty\."):
        parse(text)


@pytest.mark.parametrize(("raw", "why"), [(b"\xff\xfe\x00", "not UTF-8"), (b"a\0b", "binary")])
def test_not_a_text(raw: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        decode(raw, "issue.md")
    assert decode("\ufeffé".encode(), "issue.md") == "é"
