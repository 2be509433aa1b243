"""Acceptance criteria of an issue: an "Acceptance" section's list, else any checklist in the text."""

from __future__ import annotations

import re

from fleet.core.ticket import Criterion

_HEADING = re.compile(r"^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_BOLD = re.compile(r"^\s*\*\*(.+?)\*\*:?\s*$")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+(?:\[(?P<box>[ xX])\]\s+)?(?P<text>\S.*)$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_MOST = 50


def parse(body: str) -> tuple[Criterion, ...]:
    """At most 50 criteria. Lists inside code fences are text, not criteria."""
    lines = _outside_fences(body)
    section = _acceptance_section(lines)
    if section:
        found = [match for line in section if (match := _ITEM.match(line))]
    else:
        found = [match for line in lines if (match := _ITEM.match(line)) and match["box"] is not None]
    return tuple(Criterion(match["text"].strip(), (match["box"] or " ") in "xX") for match in found[:_MOST])


def _outside_fences(body: str) -> list[str]:
    lines, inside = [], False
    for line in body.splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


def _acceptance_section(lines: list[str]) -> list[str]:
    """Lines from a heading that starts with "Acceptance" to the next heading of the same or a higher level."""
    section: list[str] = []
    level = 0
    for line in lines:
        heading = _HEADING.match(line)
        bold = _BOLD.match(line)
        title, depth = (heading[2], len(heading[1])) if heading else (bold[1], 7) if bold else ("", 0)
        if depth and title.lower().startswith("acceptance"):
            level = depth
        elif depth and level and depth <= level:
            break
        elif level:
            section.append(line)
    return section
