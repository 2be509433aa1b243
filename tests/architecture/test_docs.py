"""docs/ says what the code does: generated parts are fresh, examples are read by the code, names exist."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from fleet.adapters import acl, keys
from fleet.cli.commands import app
from fleet.cli.wording import result
from fleet.core.events import Source
from fleet.core.states import Reason, State
from fleet.core.view import GateSummary, PullRequest, TicketView
from tests.architecture import rules
from tests.support import docs, eventdoc
from tests.support.tickets import ticket

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def page_text(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def commands() -> dict[str, frozenset[str]]:
    """Command → its options, from the Typer app."""
    found = getattr(typer.main.get_command(app), "commands", {})
    return {
        name: frozenset(option for one in command.params for option in (*one.opts, *one.secondary_opts))
        | {"--help", "-h"}
        for name, command in found.items()
    }


def test_every_page_is_in_the_index() -> None:
    index = page_text("README.md")
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []


@pytest.mark.parametrize("name", sorted(eventdoc.GENERATED))
def test_generated_parts_are_fresh(name: str) -> None:
    text = page_text(name)
    assert text == eventdoc.filled(text, eventdoc.GENERATED[name]), "run python -m tests.support.eventdoc"


def test_a_stale_generated_part_is_found() -> None:
    text = page_text("states.md")
    stale = text.replace("queued --> starting: granted", "queued --> starting: wished")
    assert stale != text
    assert eventdoc.filled(stale, eventdoc.GENERATED["states.md"]) == text
    with pytest.raises(ValueError, match="no place for events"):
        eventdoc.filled("", eventdoc.GENERATED["events.md"])


@EVERY_PAGE
def test_examples_are_read_by_the_code(page: Path) -> None:
    assert docs.bad_toml(page.name, page.read_text()) == []


@pytest.mark.parametrize(
    "block",
    [
        '# .fleet.toml\n[gates.lint]\ncomand = "ruff"\n',
        '# fleet.toml\n[caps]\ntickets = "many"\n',
        "[caps]\ntickets = 1\n",
    ],
)
def test_a_bad_example_is_found(block: str) -> None:
    assert len(docs.bad_toml("a.md", f"```toml\n{block}```\n")) == 1


@EVERY_PAGE
def test_commands_and_options_exist(page: Path) -> None:
    assert docs.bad_commands(page.name, page.read_text(), commands()) == []


@pytest.mark.parametrize("text", ["`fleet fly`", "```sh\nbin/fleet fly now\n```\n", "`fleet ls --sideways`"])
def test_a_command_that_is_none_is_found(text: str) -> None:
    assert len(docs.bad_commands("a.md", text, commands())) == 1


@EVERY_PAGE
def test_files_modules_and_links_exist(page: Path) -> None:
    assert docs.missing_places(ROOT, page.name, page.read_text()) == []


@pytest.mark.parametrize(
    "text",
    ["see fleet/core/nowhere.py", "`fleet/nowhere/`", "`fleet.core.states.nowhere`", "`fleet.nowhere`", "[a](no.md)"],
)
def test_a_place_that_is_none_is_found(text: str) -> None:
    assert len(docs.missing_places(ROOT, "a.md", text)) == 1


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_headings_that_exist(page: Path) -> None:
    assert docs.missing_headings(page, page.read_text()) == []


def test_a_heading_that_is_none_is_found() -> None:
    page = ROOT / "docs" / "ledger.md"
    good = "[a](#the-atomic-step) [b](operations.md#the-store-was-lost)"
    assert docs.missing_headings(page, good) == []
    assert len(docs.missing_headings(page, "[a](#the-atomic-stop) [b](operations.md#the-store-was-found)")) == 2


def test_the_first_page_names_every_command_that_people_use() -> None:
    """`service` and `version` are for programs and for reports; both stand in docs/operations.md."""
    text = (ROOT / "README.md").read_text()
    assert [name for name in commands() if f"`fleet {name}" not in text] == ["service", "version"]
    assert [name for name in commands() if f"fleet {name}" not in page_text("operations.md")] == []
    assert docs.bad_commands("README.md", text, commands()) == []


@EVERY_PAGE
def test_variables_are_read_by_the_code(page: Path) -> None:
    assert docs.unknown_variables(page.name, page.read_text(), docs.variables(ROOT)) == []


def test_a_variable_that_nobody_reads_is_found() -> None:
    assert len(docs.unknown_variables("a.md", "set FLEET_NOWHERE", docs.variables(ROOT))) == 1


def test_every_setting_has_its_row() -> None:
    text = page_text("operations.md")
    assert docs.undocumented_settings(text) == []
    assert len(docs.undocumented_settings(text.replace("`caps.tickets`", "`caps.places`"))) == 2
    assert len(docs.undocumented_settings(text.replace("| `300.0` |", "| `5.0` |"))) == 1


def test_every_key_of_the_repository_has_its_row() -> None:
    text = page_text("gates.md")
    assert docs.undocumented_keys(text) == []
    assert len(docs.undocumented_keys(text.replace("| `500` |", "| `5` |"))) == 1


def test_error_messages_are_said_by_the_code() -> None:
    text, everything = page_text("operations.md"), docs.said(ROOT)
    assert docs.unsaid(text, everything) == []
    assert docs.unsaid(text.replace("No fleet is running", "No fleet is walking"), everything) != []
    assert docs.unsaid("", everything) == ["no message is listed"]


def test_every_reason_and_state_is_explained() -> None:
    text = page_text("states.md")
    explained = {row[0].strip("`") for row in docs.rows(text.partition("## What each reason")[2])}
    assert {reason.value for reason in Reason} - explained == set()
    assert {state.value for state in State} - {row[0].strip("`") for row in docs.rows(text)} == set()


def test_every_key_of_the_ledger_is_explained() -> None:
    text = page_text("ledger.md")
    named = {key.split("}:")[-1].removesuffix(":*") for role in acl.Role for key in acl._WRITES.get(role, ())}
    wanted = {name for name in named if not name.startswith(("fleet:{", "in:", "begun:", "view:", "*"))}
    assert sorted(name for name in wanted if name not in text) == []
    assert all(f"in:{source.value}" in text for source in keys.INBOUND)


def test_every_source_of_events_may_speak_where_the_page_says() -> None:
    text = page_text("events.md")
    assert [source.value for source in Source if f"### {source.value}" not in text] == []


def test_counters_are_fields_of_the_code() -> None:
    known = {field.name for field in fields(TicketView)}
    named = re.findall(r"`TicketView\.(\w+)`", page_text("counters.md"))
    assert len(named) >= 8
    assert set(named) <= known


def test_the_example_for_scripts_has_the_keys_of_the_code() -> None:
    view = TicketView(
        ticket(),
        State.IN_REVIEW,
        Reason.PUBLISHED,
        0.0,
        gates=(GateSummary("lint", "lint", "passed", 1.0, "green"),),
        pull_request=PullRequest(1, "http://127.0.0.1/", "a", "b"),
    )
    examples = [json.loads(block.body) for block in docs.blocks(page_text("scripts.md")) if block.language == "json"]
    whole = [example for example in examples if example.get("pull_request") and example["type"] == "result"]
    assert len(whole) == 1
    assert docs.shape({**whole[0], "gates": whole[0]["gates"][:1]}) == docs.shape({"v": 1, **result(view)})


def test_every_promise_names_the_tests_that_show_it() -> None:
    shown, named = eventdoc.shown_by(ROOT / "tests"), eventdoc.promises(page_text("spec.md"))
    states = tomllib.loads((ROOT / "tests" / "invariants.toml").read_text())
    assert sorted(named) == sorted(rules.PROMISES)
    wrong = {name: path for name, paths in named.items() for path in paths if path not in shown.get(name, [])}
    assert wrong == {}, "run python -m tests.support.eventdoc"
    silent = [name for name, paths in named.items() if states[name]["state"] == "proven" and not paths]
    assert silent == [], "run python -m tests.support.eventdoc"


def test_a_promise_gets_the_tests_of_its_markers() -> None:
    text = "| I5 | No pass, no push. | not shown yet |\n| I6 | It ends the same. | `tests/a.py` |"
    made = eventdoc.with_tests(text, {"I5": ["tests/b.py", "tests/c.py"]})
    assert eventdoc.promises(made) == {"I5": ("tests/b.py", "tests/c.py"), "I6": ()}
