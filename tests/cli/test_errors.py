"""What a command cannot do is one sentence on standard error, and with --json one line for scripts, too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fleet.cli.__main__ import main

NO_FLEET = "No fleet is running in this home. Start it with `fleet up`."


def ended(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, home: Path) -> int:
    monkeypatch.setenv("FLEET_HOME", str(home))
    monkeypatch.setattr(sys, "argv", ["fleet", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ls", "--json"), NO_FLEET),
        (("show", "1", "--json"), NO_FLEET),
        (("replay", "1", "--json"), "There is no record in"),
        (("replay", "--json"), "Name a ticket, or a log with --file."),
        (("run", "--json"), "No repository is named."),
        (("show", "--json"), "Missing argument"),
        (("retry", "1", "--json", "--nonsense"), "No such option"),
        (("chaos", "--json", "--tickets", "0"), "greater than or equal to 1"),
    ],
)
def test_a_script_reads_the_error_where_it_reads_all_else(
    words: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = ended(words, monkeypatch, tmp_path / "home")
    out, err = capsys.readouterr()
    (row,) = [json.loads(line) for line in out.splitlines()]
    assert (row.pop("v"), row.pop("type"), row.pop("exit_code")) == (1, "error", code) and code == 2
    assert says in row.pop("message") and row == {}
    assert err, "people read the sentence, too"


@pytest.mark.invariant("I21")
def test_a_sentence_acts_on_no_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(("replay", "--file", f"{tmp_path}/\x1b[31m"), monkeypatch, tmp_path / "home") == 2
    err = capsys.readouterr().err
    assert "is not a log" in err and "\\u001b[31m" in err and "\x1b" not in err


@pytest.mark.parametrize("words", [("ls",), ("show",), ("steer", "1", "--", "--json")])
def test_people_are_not_shown_the_line_for_scripts(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(words, monkeypatch, tmp_path / "home") == 2
    assert capsys.readouterr().out == ""
