"""The table of ``fleet ls``: readable in a narrow terminal, and text of people is text."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from fleet.cli.tickets import drawn

ROW = {
    "ticket": "tabulate-1-4f9c2a7b", "state": "backing off", "spent": "$0.12", "issue": "local/tabulate#1",
    "title": "Remove unused imports", "why": "tries again at 12:00:00 (lost)",
}  # fmt: skip


def printed(width: int, **changed: str) -> str:
    file = StringIO()
    Console(file=file, width=width).print(drawn([ROW | changed], width))
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_state_and_reason_are_read_at_every_width(width: int) -> None:
    text = printed(width)
    assert all(part in text for part in ("ticket", "tabulate-1-4f9c2a7b", "backing off", "tries again at"))
    assert ("Remove unused" in text) == (width >= 100) and ("local/tabulate#1" in text) == (width >= 120)
    assert len(text.splitlines()) == 2


def test_a_title_that_means_something_to_the_library_is_only_text() -> None:
    assert "Mend [bold] and [/foo]" in printed(200, title="Mend [bold] and [/foo]")
