"""Issue text as data: what a person cannot see is taken out and counted before an agent may read it (I21). Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from fleet.core.errors import UsageError

MOST_CHARS = 65_536
_TITLE_CHARS = 200
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


@dataclass(frozen=True, slots=True)
class IssueText:
    """Clean text. ``hidden`` counts removed characters, ``comments`` removed HTML comments."""

    title: str
    body: str
    hidden: int = 0
    comments: int = 0


def clean(title: str, body: str) -> IssueText:
    """Without invisible characters, terminal escapes and HTML comments. Raises UsageError when nothing is left of the
    title or the text is too long; visible text is never changed."""
    if len(title) + len(body) > MOST_CHARS:
        raise UsageError(
            f"The issue has {len(title) + len(body)} characters; at most {MOST_CHARS} are taken.",
            "Shorten it, or put the details into a file of the repository.",
        )
    seen_title, hidden_title = visible(title)
    # Characters first: an invisible one in the middle of a comment's mark must not keep the comment from being found.
    seen_body, hidden_body = visible(body)
    seen_body, comments = _without_comments(seen_body)
    seen_title = " ".join(seen_title.split())[:_TITLE_CHARS].strip()
    if not seen_title:
        raise UsageError("The issue is empty.", "Give it a title that says what to do.")
    return IssueText(seen_title, seen_body.strip(), hidden_title + hidden_body, comments)


def parse(text: str) -> tuple[str, str]:
    """(title, body) of a text file: the first line with something in it, ``#`` marks taken off, and the rest."""
    lines = text.lstrip("\ufeff").splitlines()
    for number, line in enumerate(lines):
        if stripped := line.strip():
            heading = re.sub(r"^#{1,6}\s+|\s+#+$", "", stripped)
            rest = "\n".join(lines[number + 1 :])
            # A first line too long for a title stays whole in the body.
            return heading, rest if len(heading) <= _TITLE_CHARS else "\n".join(lines[number:])
    raise UsageError("The issue is empty.", "Write its title in the first line.")


def decode(raw: bytes, name: str) -> str:
    """Raises UsageError for what is not UTF-8 text; ``name`` is for the message."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text.", "Save the issue as UTF-8.") from None
    if "\0" in text:
        raise UsageError(f"{name} is a binary file.", "Give a text file with the issue.")
    return text


def visible(text: str) -> tuple[str, int]:
    """What a person can see of ``text``, and how many characters that leaves out."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    bare = _ESCAPE.sub("", text)
    kept = "".join(c for c in bare if c in "\n\t" or not _is_hidden(c))
    return kept, len(text) - len(kept)


def _is_hidden(c: str) -> bool:
    if c.isascii():
        return not c.isprintable()
    variation = 0xFE00 <= ord(c) <= 0xFE0F or 0xE0100 <= ord(c) <= 0xE01EF
    return variation or c in _FILLERS or unicodedata.category(c) in _HIDDEN


def _without_comments(body: str) -> tuple[str, int]:
    """Comments that a page does not show. Inside a code fence they are shown, so there they stay."""
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    fence = ""
    for line in body.split("\n"):
        mark = _FENCE.match(line)
        if mark and not fence and not _unclosed("\n".join(parts[-1][1])):
            fence = mark[1]
            parts.append((True, [line]))
        elif mark and fence and mark[1].startswith(fence) and line.strip() == mark[1]:
            parts[-1][1].append(line)
            parts.append((False, []))
            fence = ""
        else:
            parts[-1][1].append(line)
    count = 0
    shown: list[str] = []
    for fenced, lines in parts:
        text = "\n".join(lines)
        if not fenced:
            text, found = _COMMENT.subn("", text)
            count += found
        shown.append(text)
    return "\n".join(shown), count


def _unclosed(text: str) -> bool:
    return text.rfind("<!--") > text.rfind("-->")
