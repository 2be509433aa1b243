"""Each protection of the money, switched off: the test that stands for it must notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.core.errors import FleetError
from tests.gateway import test_budgets as budgets
from tests.gateway import test_gateway as calls
from tests.gateway.conftest import Place
from tests.support.mutants import Mutant


def without_place(check: Callable[[], None]) -> Callable[[Place], None]:
    return lambda _: check()


MUTANTS = {
    "budget of the ticket": Mutant(
        "lua:spend_reserve", "return 'budget'", "", calls.test_calls_at_once_cannot_pass_a_limit_together
    ),
    "reservations count": Mutant(
        "lua:spend_reserve",
        "n(key, 'micros') + n(key, 'reserved') + micros",
        "n(key, 'micros') + micros",
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
        "if redis.call('HDEL', KEYS[5], ARGV[1]) == 0 then return 0 end",
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
    "a day has an end": Mutant(
        "fleet.gateway.books:Books._reserve",
        "if refusal in _TOMORROW",
        "if False",
        calls.test_a_model_that_always_asks_for_more_is_stopped,
        ({}, 0.05, "day"),
    ),
    "a tenant's share": Mutant("lua:spend_reserve", "return 'tenant'", "", budgets.two_of_one_tenant),
    "the home's day": Mutant("lua:spend_reserve", "return 'day'", "", budgets.two_of_one_tenant),
    "the fleet's month": Mutant("lua:spend_reserve", "return 'fleet'", "", budgets.two_of_one_tenant),
    "every level counts before the call": Mutant(
        "lua:spend_reserve", "redis.call('HINCRBY', KEYS[level], 'reserved', micros)", "", budgets.two_of_one_tenant
    ),
    "one tenant's sum is not another's": Mutant(
        "fleet.adapters.spend:SpendBook._keys",
        'keys.of(_ENTITY, "tenant", reservation.tenant, reservation.day)',
        'keys.of(_ENTITY, "tenant", "all", reservation.day)',
        budgets.test_a_greedy_tenant_spends_its_own_share_only,
    ),
    "a share is no wider than the day": Mutant(
        "fleet.core.tenants:Money.tenant",
        "min(self.tenants.get(name, common), common, self.day_usd)",
        "self.tenants.get(name, common)",
        without_place(budgets.test_a_share_is_never_wider_than_what_it_is_a_part_of),
    ),
    "asks before the rest": Mutant(
        "lua:spend_reserve", "soft >= 0 and", "false and", budgets.test_a_ticket_asks_before_it_spends_the_rest
    ),
    "asks again in what was allowed last": Mutant(
        "fleet.core.allowance:allowance",
        "min(last, usd)",
        "usd",
        budgets.test_a_ticket_asks_before_it_spends_the_rest,
    ),
    "never closed too early": Mutant(
        "lua:spend_close",
        "'-inf', now, 'LIMIT'",
        "'-inf', '+inf', 'LIMIT'",
        budgets.test_what_a_killed_gateway_set_aside_is_closed_when_it_must_be_over_and_never_earlier,
    ),
    "what nobody can tell counts as spent": Mutant(
        "lua:spend_close", "redis.call('HINCRBY', level, 'micros', micros)", "", budgets.two_of_one_tenant
    ),
    "closed once": Mutant(
        "lua:spend_close",
        "redis.call('HDEL', KEYS[1], id)",
        "",
        budgets.test_what_a_killed_gateway_set_aside_is_closed_when_it_must_be_over_and_never_earlier,
    ),
    "closed by the next call": Mutant(
        "fleet.gateway.books:Books._reserve", "self._close()", "pass", budgets.test_the_gateway_closes_them_by_itself
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
