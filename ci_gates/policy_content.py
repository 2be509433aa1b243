"""Policy on what added lines contain: secrets, and characters that a reader of the diff cannot see. Pure."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from ci_gates.edits import Breach, Edit, Weight, text

# High precision only: each of these shapes is a credential and nothing else.
_SECRETS = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "a GitLab token": re.compile(r"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat)-[A-Za-z0-9_-]{20,}\b"),
    "a Slack token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}\b"),
    "a Slack webhook": re.compile(r"hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{20,}"),
    "a Stripe key": re.compile(r"\b[rs]k_live_[A-Za-z0-9]{20,}\b"),
    "a Google API key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "an Anthropic key": re.compile(r"\bsk-ant-[a-z0-9]+-[A-Za-z0-9_-]{30,}"),
    "an OpenAI key": re.compile(r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}"),
    "a PyPI token": re.compile(r"\bpypi-AgE[A-Za-z0-9_-]{50,}"),
    "an npm token": re.compile(r"\bnpm_[A-Za-z0-9]{36}\b"),
    "a SendGrid key": re.compile(r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{34,}\b"),
    "a signed web token": re.compile(r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,}"),
    "a password in an address": re.compile(
        r"\b[a-z][a-z0-9+.-]*://[^\s:/@\"'{}$<>]{1,60}:[^\s:/@\"'{}$<>*]{8,}@[\w.-]+"
    ),
}
_ASSIGNED = re.compile(
    r"(?:secret|token|passw(?:or)?d|api_?key|access_?key|private_?key|credential)s?\w*[\"']?\s*[:=]\s*"
    r"[\"'](?P<value>[A-Za-z0-9+/_=.\-]{20,200})[\"']",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r"example|sample|dummy|fake|test|changeme|your|xxx|123456|abcdef|placeholder|0000", re.IGNORECASE)
_ENTROPY = 3.8

_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\x80-\x9f]")
_JOINER = re.compile("[\u200c\u200d]")
# Words of Latin letters with one of these among them read as if they were all Latin.
_WORD = re.compile(r"[^\W\d_][\w]*")
_LOOKALIKE_GREEK = frozenset("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονι")


def content_breaches(edit: Edit) -> Iterator[Breach]:
    """Looks at added lines, and in them at what base's file does not have: an edited line keeps its past."""
    before = text(edit.old)
    for number, line in edit.added_lines():
        secret = _secret(line, before)
        if secret:
            message = f"this line seems to contain {secret}; whoever it belongs to must revoke it"
            yield Breach(Weight.REFUSE, "secret", edit.path, number, message)
        hidden = hidden_character(line.removeprefix("\ufeff") if number == 1 else line)
        if hidden and not _as_often(edit, hidden):
            message = f"this line contains {hidden}, which a reader of the diff cannot see"
            yield Breach(Weight.REFUSE, "hidden-character", edit.path, number, message)
        mixed = lookalike(line)
        if mixed and mixed not in before:
            message = f"the word {mixed!a} mixes Latin letters with letters of another script that look the same"
            yield Breach(Weight.REFUSE, "lookalike", edit.path, number, message)


def _as_often(edit: Edit, named: str) -> bool:
    """Whether base's file has this character at least as often."""
    c = chr(int(named[2:].partition(" ")[0], 16)).encode()
    return (edit.old or b"").count(c) >= (edit.new or b"").count(c)


def _secret(line: str, before: str) -> str:
    for name, pattern in _SECRETS.items():
        found = pattern.search(line)
        if found and found[0] not in before and not _EXAMPLE.search(found[0]):
            return name
    for found in _ASSIGNED.finditer(line):
        value = found["value"]
        if value not in before and entropy(value) >= _ENTROPY and not _EXAMPLE.search(value) and _mixed(value):
            return "a secret (a random text is assigned to a name that says so)"
    return ""


def _mixed(value: str) -> bool:
    """Digits and letters: words and dotted names have no digits."""
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value)


def entropy(value: str) -> float:
    """Shannon entropy in bits per character."""
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) if value else 0.0


def hidden_character(line: str) -> str:
    """The name of the first invisible, direction-changing or control character; empty when there is none.

    A zero-width joiner between two characters outside ASCII is how emoji and several scripts are written.
    """
    found = _HIDDEN.search(line) or _CONTROL.search(line)
    if found:
        return _named(found[0])
    for joiner in _JOINER.finditer(line):
        before, after = line[joiner.start() - 1 : joiner.start()], line[joiner.end() : joiner.end() + 1]
        if not before or not after or before.isascii() or after.isascii():
            return _named(joiner[0])
    return ""


def lookalike(line: str) -> str:
    """The first word that mixes Latin with Cyrillic, Armenian, Cherokee or Latin-looking Greek letters."""
    if line.isascii():
        return ""
    for match in _WORD.finditer(line):
        word = match[0]
        if word.isascii() or not any(c.isascii() and c.isalpha() for c in word):
            continue
        if any(c in _LOOKALIKE_GREEK or _script(c) in ("CYRILLIC", "ARMENIAN", "CHEROKEE") for c in word):
            return word
    return ""


def _script(c: str) -> str:
    return "" if c.isascii() else unicodedata.name(c, "").partition(" ")[0]


def _named(c: str) -> str:
    return f"U+{ord(c):04X} {unicodedata.name(c, 'control character').lower()}"
