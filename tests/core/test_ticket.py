"""Ids, slugs, branches, criteria, effects: deterministic, unique, safe wherever they are written."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.criteria import parse
from fleet.core.effects import Effect, EffectKind
from fleet.core.ticket import (
    TICKET_ID,
    Criterion,
    all_shards,
    branch_name,
    shard_of,
    slug,
    text_hash,
    ticket_id,
)

names = st.text(max_size=80)
numbers = st.integers(1, 10**9)
parts = st.tuples(names, names, numbers, st.integers(1, 50))


@pytest.mark.invariant("I2")
@given(parts, parts)
def test_an_id_is_the_same_for_the_same_issue_and_another_for_another(
    one: tuple[str, str, int, int], two: tuple[str, str, int, int]
) -> None:
    try:
        first, second = ticket_id(*one), ticket_id(*two)
    except UnicodeEncodeError:
        return  # no forge has such a name
    assert (first == second) == (one == two)
    assert first == ticket_id(*one)
    assert TICKET_ID.fullmatch(first)
    assert ":" not in first


@pytest.mark.invariant("I2")
def test_ids_stay_apart_over_repositories_numbers_generations_and_tenants() -> None:
    every = list(itertools.product(("a", "b"), ("x/demo", "y/demo", "demo"), range(1, 200), range(1, 4)))
    assert len({ticket_id(*one) for one in every}) == len(every)


def test_the_parts_of_an_id_cannot_be_shifted() -> None:
    assert ticket_id("a", "b/c", 11, 1) != ticket_id("a", "b/c", 1, 11)
    assert ticket_id("a", "bc/d", 1, 1) != ticket_id("ab", "c/d", 1, 1)


@given(names, st.integers(1, 60))
def test_a_slug_is_safe_everywhere(text: str, length: int) -> None:
    made = slug(text, length)
    assert len(made) <= length
    assert made == "" or TICKET_ID.fullmatch(made)
    assert not made.startswith("-") and not made.endswith("-") and "--" not in made
    assert slug(made, length) == made


@given(numbers, st.integers(1, 50), names)
def test_a_branch_is_a_good_ref_and_tells_number_and_generation(number: int, generation: int, title: str) -> None:
    made = branch_name(number, generation, title)
    prefix, rest = made.removeprefix("fleet/").split("-", 1)
    assert prefix == (str(number) if generation == 1 else f"{number}.{generation}")
    assert rest == (slug(title) or "change")
    assert not any(bad in made for bad in ("..", "@{", "~", "^", ":", "\\", " ", "//")) and not made.endswith(".lock")


@pytest.mark.parametrize("title", ["", "---", "日本語", "\x1b[31m", "../../etc", "a.lock"])
def test_odd_titles_give_plain_branches(title: str) -> None:
    assert branch_name(7, 1, title) in ("fleet/7-change", "fleet/7-31m", "fleet/7-etc", "fleet/7-a-lock")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_ticket_has_one_shard_of_sixteen(name: str) -> None:
    assert shard_of(name) in all_shards()
    assert shard_of(name) == shard_of(name)
    assert len(set(all_shards())) == 16


def test_tickets_spread_over_all_shards() -> None:
    assert {shard_of(ticket_id("default", "local/demo", number, 1)) for number in range(300)} == set(all_shards())


def test_the_text_hash_sees_every_edit() -> None:
    texts = [("a", "b"), ("a", "b "), ("ab", ""), ("", "ab"), ("a", "B")]
    assert len({text_hash(*text) for text in texts}) == len(texts)


def test_effects_have_an_id_each() -> None:
    counters = itertools.product(("t-1-aa", "t-11-aa"), EffectKind, range(3), range(3), range(3))
    effects = [Effect(kind, ticket, attempt, round_, turn) for ticket, kind, attempt, round_, turn in counters]
    assert len({effect.id for effect in effects}) == len(effects)
    one = Effect(EffectKind.PUBLISH, "t", 1, 1, 0, data="a", trace="b")
    assert one.id == Effect(EffectKind.PUBLISH, "t", 1, 1).id, "the same order, whatever it carries"


# --- criteria ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("", ()),
        ("Just text.\n- a list\n- of things", ()),
        ("- [ ] one\n- [x] two\n* [X] three", (("one", False), ("two", True), ("three", True))),
        ("## Acceptance criteria\n- one\n1. two\n\nText.\n## Notes\n- three", (("one", False), ("two", False))),
        ("# ACCEPTANCE\n- [x] one\n### Details\n- two\n# Rest\n- three", (("one", True), ("two", False))),
        ("**Acceptance:**\n- one\n**Notes**\n- two", (("one", False),)),
        ("- [ ] outside\n## Acceptance\n- inside", (("inside", False),)),
        ("## Acceptance\nnothing listed\n## More\n- [ ] box", ()),
        ("```\n- [ ] code\n```\n- [ ] text", (("text", False),)),
        ("## Acceptance\n~~~\n- code\n~~~\n- text", (("text", False),)),
        ("- [ ]    \n- [] none\n-[ ] none", ()),
        ("- [ ] tail  \r\n- [x] windows\r\n", (("tail", False), ("windows", True))),
    ],
)
def test_criteria_are_found(body: str, found: tuple[tuple[str, bool], ...]) -> None:
    assert parse(body) == tuple(Criterion(text, done) for text, done in found)


@given(st.text())
def test_criteria_of_any_text_are_few_and_short_of_nothing(body: str) -> None:
    found = parse(body)
    assert len(found) <= 50
    assert all(one.text and one.text == one.text.strip() for one in found)


def test_a_huge_issue_costs_little() -> None:
    assert len(parse("- [ ] item\n" * 20_000)) == 50
    assert parse("#" * 100_000 + "\n" + "- " * 100_000) == ()
    assert parse("# " + " " * 20_000 + "x\n** " + "*" * 20_000) == ()
