"""A growing conversation is read from the provider's cache; what would spoil that is noticed here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fleet.bench import tokens
from fleet.bench.tokens import RESULTS, Turn, compare, filler, price, script
from fleet.core.spend import Usage
from fleet.rehearsal.cache import PrefixCache
from fleet.rehearsal.script import parse
from workers.agents import anthropic_model, openai_model, prompts
from workers.agents.conversation import Call, Entry, Reply, Result, Results, Said, Stop, compact

MOST = 400_000
Request = Callable[[tuple[Entry, ...]], dict[str, Any]]


def messages(entries: tuple[Entry, ...]) -> dict[str, Any]:
    system = [{"type": "text", "text": prompts.SYSTEM, **anthropic_model._CACHED}]
    return {"model": "m", "system": system, "messages": anthropic_model.messages(entries)}


def responses(entries: tuple[Entry, ...]) -> dict[str, Any]:
    return {"model": "m", "instructions": prompts.SYSTEM, "input": openai_model.response_input(entries)}


def turns(form: str, most: int = MOST) -> Iterator[tuple[Entry, ...]]:
    """The conversation before each call of thirty turns, as the loop keeps it."""
    entries: tuple[Entry, ...] = (Said(filler(0, 3000)),)
    for at in range(30):
        entries = compact(entries, most)
        yield entries
        call = Call(f"c{at}", "shell", {"command": f"pytest {at}"})
        native: Any = [{"type": "tool_use", "id": call.id, "name": "shell", "input": dict(call.input)}]
        if form == "openai":
            native = [{"type": "function_call", "call_id": call.id, "name": "shell", "arguments": "{}"}]
        text = filler(at, RESULTS[at % len(RESULTS)])
        entries = (*entries, Reply("", (call,), Stop.TURN, native), Results((Result(call.id, text),)))


def cached(form: str, make: Request | None = None, most: int = MOST) -> float:
    """The share of all input that came from the cache."""
    cache, make = PrefixCache(), make or (messages if form == "anthropic" else responses)
    counted = [cache.count(make(entries), form == "anthropic") for entries in turns(form, most)]
    return sum(one.read for one in counted) / sum(one.total for one in counted)


@pytest.mark.parametrize("form", ["anthropic", "openai"])
def test_most_of_a_long_conversation_comes_from_the_cache(form: str) -> None:
    assert cached(form) > 0.9


def test_without_the_marks_nothing_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anthropic_model, "_CACHED", {})
    assert cached("anthropic") == 0


@pytest.mark.parametrize("form", ["anthropic", "openai"])
def test_a_beginning_that_changes_is_never_cached(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = messages if form == "anthropic" else responses, itertools.count()

    def dated(entries: tuple[Entry, ...]) -> dict[str, Any]:
        monkeypatch.setattr(prompts, "SYSTEM", f"It is {next(count)} o'clock.")
        return real(entries)

    assert cached(form, dated) == 0


def test_shortening_at_every_turn_would_spoil_the_cache() -> None:
    assert cached("openai", most=60_000) < cached("openai") - 0.2


def test_the_naive_loop_pays_the_full_price_for_every_token() -> None:
    ours = [Turn(100, Usage(100, 10, 900), 0.001)]
    plain = [Turn(100, Usage(200, 10, 1800), 0.002)]
    figures = {figure.name.partition(": ")[2]: figure.median for figure in compare("x", ours, plain, price())}
    assert figures["cached share of the input"] == 90
    assert figures["tokens sent, of the naive loop's"] == 0.5
    assert figures["cost, of the naive loop's"] == pytest.approx(0.001 / ((2000 * 2.0 + 10 * 10.0) / 1e6))


def test_the_scripted_ticket_has_as_many_turns_and_its_results_never_repeat() -> None:
    made = parse(script(30), "x")
    assert len(made.turns) == 30 and made.turns[-1].calls[0].tool == "finish"
    assert {len(turn.calls) for turn in made.turns[:-1]} == {1, 2}
    assert len({filler(at, 400) for at in range(50)}) == 50
    assert [len(line) for line in tokens.table("x", [Turn(1, Usage(1), 0.0)], [Turn(1, Usage(1), 0.0)])]
