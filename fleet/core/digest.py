"""The most useful part of a log, within a bound: what failed and why, with its surroundings, in its order. Pure.

Neither the head nor the end of a log says why a build failed. Each line is worth what its looks say of it, lends some
of that to its neighbours, and the worthiest that fit are taken. Lines that only repeat what was said before lose worth,
so that a flood of one complaint hides no other.
"""

from __future__ import annotations

import re

MOST = 4000
_LINE = 400
# Bigger logs are bounded where they are written; this bounds the work. The end of a log says more than its head.
_HEAD, _TAIL = 200_000, 800_000
_GAP = "[… {} lines left out …]"
_GAP_CHARS = 36
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")
_REPEATED = 1.5

# What a line looks like → what it is worth. The first that fits counts.
_SIGNS: tuple[tuple[re.Pattern[str], float], ...] = tuple(
    (re.compile(pattern), worth)
    for pattern, worth in (
        (r"^\s*[.sxFEX]+\s+\[ *\d+%\]$|\bPASSED\b|^ok\b|^\s*✓", -2.0),
        (r"(?i)^\s*(collecting|downloading|installing|using cached|requirement already|fetching|compiling) ", -2.0),
        (r"^E\s+\S", 9.0),  # pytest: why the assertion failed
        (r"^(FAILED|ERROR) \S+", 8.0),  # pytest: its short summary
        (r"^\s*(\w+\.)*\w*(Error|Exception|Exit|Interrupt|Failure)\b\s*(:|$)", 8.0),  # the last line of a traceback
        (r"^thread '.*' panicked|^panic:|^fatal( error)?:|^\s*(left|right): ", 8.0),
        (r"^\S+:\d+(:\d+)?:? .*\b(error|Error)\b", 7.0),  # compilers, mypy: place and complaint
        (r"(?i)^\s*(error|err!|failed|failure)\b\s*(\[\w+\])?:?", 6.0),
        (r"^--- FAIL|^not ok\b|^\s*[✕✗×●]\s", 6.0),
        (r"^\S+:\d+:\d+:? [A-Z]+\d+ ", 6.0),  # linters: place and code
        (r"(?i)\bexpected\b.*\b(got|but|received|actual)\b|\bassert", 5.0),
        (r"(?i)^\s*(expected|received|actual|got)\b\s*:", 5.0),
        (r"^>\s+\S", 5.0),  # pytest: the line that failed
        (r"(?i)\b(error|exception|failed|failure|cannot|not found|undefined|unresolved|denied|killed)\b", 4.0),
        (r"^\S+\.\w+:\d+: |^\s+File \".*\", line \d+|^\s+at .*:\d+", 3.0),  # where it happened
        (r"^Traceback \(most recent call last\)", 3.0),
        (r"(?i)\b(exit code|exit status|status \d|timed? ?out)\b", 3.0),
        (r"(?i)\bwarn(ing)?\b", 0.5),
    )
)
# How much of a line's worth its neighbours get: those before it lead up to it, those after it are the rest of it.
_BEFORE = (0.7, 0.55, 0.4)
_AFTER = (0.6, 0.4)


def useful(text: str, most: int = MOST) -> str:
    """At most ``most`` characters of ``text``: all of it when it fits, else its most useful lines in their order."""
    text = text.strip("\n")
    if len(text) <= most:
        return text
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    lines = [line if len(line) <= _LINE else f"{line[: _LINE - 1]}…" for line in text.splitlines()]
    return _joined(lines, _chosen(lines, _worths(lines), most))[:most]


def share(parts: list[tuple[str, str]], most: int = MOST) -> str:
    """(heading, log) of several failures in one text of at most ``most`` characters; each gets an equal share."""
    if not parts:
        return ""
    each = max(0, most // len(parts) - 1)
    told = []
    for heading, log in parts:
        head = heading[:each]
        room = each - len(head) - 1
        said = useful(log, room) if log and room > 0 else ""
        told.append(f"{head}\n{said}" if said else head)
    return "\n".join(told)[:most]


def _worths(lines: list[str]) -> list[float]:
    own, seen = [], dict[str, int]()
    for line in lines:
        worth = next((worth for sign, worth in _SIGNS if sign.search(line)), 0.0)
        if worth > 0.0:
            looks = _NUMBERS.sub("#", line.strip())
            worth -= min(worth, _REPEATED * seen.get(looks, 0))
            seen[looks] = seen.get(looks, 0) + 1
        own.append(worth)
    found = list(own)
    for number, worth in enumerate(own):
        if worth < 3.0:
            continue
        for step, part in enumerate(_BEFORE, 1):
            _lend(found, own, number - step, worth * part)
        for step, part in enumerate(_AFTER, 1):
            _lend(found, own, number + step, worth * part)
    _last_words(lines, found)
    return found


def _lend(found: list[float], own: list[float], number: int, worth: float) -> None:
    # What is noise stays noise beside an error.
    if 0 <= number < len(found) and own[number] >= 0.0:
        found[number] = max(found[number], worth)


def _last_words(lines: list[str], found: list[float]) -> None:
    """A log without any sign of an error ends with the best guess."""
    for number in range(len(lines) - 1, max(-1, len(lines) - 6), -1):
        if lines[number].strip():
            found[number] = max(found[number], 2.0)


def _chosen(lines: list[str], worths: list[float], most: int) -> set[int]:
    """The worthiest lines that fit, the earlier first; later ones of the same worth often follow from it."""
    chosen: set[int] = set()
    left = most - _GAP_CHARS
    for number in sorted(range(len(lines)), key=lambda n: (-worths[n], n if worths[n] > 0.0 else -n)):
        beside = number - 1 in chosen or number + 1 in chosen
        cost = len(lines[number]) + 1 + (0 if beside else _GAP_CHARS)
        if cost <= left:
            chosen.add(number)
            left -= cost
    return chosen


def _joined(lines: list[str], chosen: set[int]) -> str:
    told: list[str] = []
    last = -1
    for number in sorted(chosen):
        if number > last + 1:
            told.append(_GAP.format(number - last - 1))
        told.append(lines[number])
        last = number
    if last < len(lines) - 1:
        told.append(_GAP.format(len(lines) - 1 - last))
    return "\n".join(told)
