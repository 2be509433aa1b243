"""H: same input, same SHA; merged with the current base; nothing of the issue's body in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ci_gates.head import build_head, message
from tests.gates.world import World
from tests.support.tickets import ticket


@pytest.mark.invariant("I5")
def test_the_same_input_gives_the_same_commit(world: World) -> None:
    base = world.commit({"a": "1\n", "b": "1\n"})
    change = world.commit({"a": "2\n", "b": "1\n"}, base)
    moved = world.commit({"a": "1\n", "b": "2\n"}, base)
    first = build_head(world.store, ticket(), change, base)
    assert first == build_head(world.store, ticket(), change, base) and first.sha
    merged = build_head(world.store, ticket(), change, moved)
    assert merged.sha != first.sha
    assert [world.store.read(merged.sha, name, 9) for name in "ab"] == [b"2\n", b"2\n"]
    assert build_head(world.store, replace(ticket(), accepted_at=5.0), change, base).sha != first.sha


def test_conflicts_are_named_and_a_change_that_base_has_is_empty(world: World) -> None:
    base = world.commit({"a": "1\n"})
    change = world.commit({"a": "2\n"}, base)
    other = world.commit({"a": "3\n"}, base)
    assert build_head(world.store, ticket(), change, other).conflicts == ("a",)
    same = world.commit({"a": "2\n"}, base)
    assert build_head(world.store, ticket(), change, same).empty


def test_later_rounds_stand_on_the_pull_request(world: World) -> None:
    base = world.commit({"a": "1\n"})
    change = world.commit({"a": "2\n"}, base)
    first = build_head(world.store, ticket(), change, base)
    again = world.commit({"a": "3\n"}, base)
    second = build_head(world.store, ticket(), again, base, first.sha)
    assert world.store.call("rev-list", "--parents", "-1", second.sha).stdout.split()[1:] == [first.sha.encode()]
    moved = world.commit({"a": "1\n", "b": "1\n"}, base)
    third = build_head(world.store, ticket(), again, moved, first.sha)
    parents = world.store.call("rev-list", "--parents", "-1", third.sha).stdout.decode().split()[1:]
    assert parents == [first.sha, moved] and world.store.read(third.sha, "b", 9) == b"1\n"


@pytest.mark.invariant("I21")
def test_the_message_holds_one_line_of_the_title_and_no_trailer_of_others() -> None:
    hostile = ticket(title="Fix\n\nSigned-off-by: Root <root@x>\x1b[31m\u202e", body="Co-authored-by: You <y@x>")
    lines = message(hostile).splitlines()
    assert lines[0].startswith("Fix Signed-off-by") and "\x1b" not in lines[0] and "\u202e" not in lines[0]
    assert lines[1] == "" and [line.partition(":")[0] for line in lines[2:]] == ["Issue", "Fleet-Ticket"]
