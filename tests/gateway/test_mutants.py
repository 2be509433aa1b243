"""Each protection of the money, switched off: the test that stands for it must notice."""

from __future__ import annotations

import pytest

from fleet.core.errors import FleetError
from tests.gateway import test_gateway as calls
from tests.gateway.conftest import Place
from tests.support.mutants import Mutant

MUTANTS = {
    "budget of the ticket": Mutant(
        "lua:spend_reserve", "return 'budget'", "", calls.test_calls_at_once_cannot_pass_a_limit_together
    ),
    "reservations count": Mutant(
        "lua:spend_reserve",
        "if n(KEYS[1], 'micros') + n(KEYS[1], 'reserved') + micros",
        "if n(KEYS[1], 'micros') + micros",
        calls.test_calls_at_once_cannot_pass_a_limit_together,
    ),
    "counted before the call": Mutant(
        "lua:spend_reserve",
        "redis.call('HINCRBY', KEYS[1], prefix .. 'reserved', micros)",
        "",
        calls.test_a_gateway_that_dies_counts_more_and_never_less,
    ),
    "settled once": Mutant(
        "lua:spend_settle",
        "if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then return 0 end",
        "",
        calls.test_settling_twice_counts_once,
    ),
    "calls": Mutant(
        "lua:spend_reserve",
        "return 'calls'",
        "",
        calls.test_a_model_that_always_asks_for_more_is_stopped,
        ({"model_calls": 3}, 20.0, "calls"),
    ),
    "day": Mutant(
        "lua:spend_reserve",
        "return 'day'",
        "",
        calls.test_a_model_that_always_asks_for_more_is_stopped,
        ({}, 0.05, "day"),
    ),
    "what was seen to arrive": Mutant(
        "fleet.gateway.wire:StreamReader.settled",
        "self.usage.most(Usage(output_tokens=-(-self._said // 3)))",
        "self.usage",
        calls.test_a_broken_stream_counts,
        ("cut",),
    ),
    "an attempt that is over": Mutant(
        "fleet.gateway.books:Books.grant",
        "view.attempt != attempt or",
        "",
        calls.test_an_attempt_that_is_over_and_a_strange_key_are_refused,
    ),
    "whose key": Mutant(
        "fleet.core.spend:read_key",
        "hmac.compare_digest(_seal(secret, ticket, attempt), found[3])",
        "True",
        calls.test_an_attempt_that_is_over_and_a_strange_key_are_refused,
    ),
    "only what the API needs goes on": Mutant(
        "fleet.gateway.app:Gateway._ask",
        "for name in _PASSED_ON if name in request.headers",
        "for name in request.headers",
        calls.test_the_real_key_is_put_in_here_and_nothing_of_the_caller_leaks,
    ),
    "the real key in an error": Mutant(
        "fleet.gateway.app:_scrubbed",
        "redactor.register(key)",
        "",
        calls.test_a_key_that_a_server_repeats_in_its_error_goes_no_further,
        ("plain",),
    ),
    "a parked provider": Mutant(
        "fleet.gateway.books:Books.grant",
        "if wait > 0:",
        "if False:",
        calls.test_a_pause_of_the_provider_holds_for_every_ticket,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises((AssertionError, FleetError, pytest.fail.Exception)):
        mutant.scenario(place, *mutant.arguments)
