"""Budget, backoff and settings: bounds that only ever get tighter."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.budget import Budget, Cost
from fleet.core.retry import BACKOFF_FIRST_S, BACKOFF_MOST_S, backoff
from fleet.core.settings import Layer, Settings, SettingsError, from_environment, resolve, tighten
from fleet.core.ticket import TicketLimits

money = st.floats(0, 1000, allow_nan=False)


@pytest.mark.invariant("I8")
@given(money, st.lists(st.tuples(st.sampled_from(["reserve", "settle"]), st.floats(-5, 500), st.floats(0, 1))))
def test_calls_never_start_beyond_the_limit(limit: float, steps: list[tuple[str, float, float]]) -> None:
    """A call costs at most what was reserved for it: then no order of calls spends more than the limit."""
    budget, open_calls = Budget(limit), list[float]()
    for verb, usd, share in steps:
        if verb == "reserve":
            after = budget.reserve(usd)
            assert (after is None) == (usd < 0 or usd > budget.left_usd)
            if after is not None:
                budget = after
                open_calls.append(usd)
        elif open_calls:
            reserved = open_calls.pop()
            budget = budget.settle(reserved, reserved * share)
        assert budget.spent_usd + budget.reserved_usd <= limit + 1e-6
        assert 0 <= budget.left_usd <= limit


@pytest.mark.invariant("I8")
def test_an_overrun_counts_in_full_and_stops_the_next_call() -> None:
    budget = Budget(1.0).reserve(0.5)
    assert budget is not None
    overrun = budget.settle(0.5, 3.0)
    assert (overrun.spent_usd, overrun.left_usd) == (3.0, 0.0)
    assert overrun.reserve(0.01) is None


def test_costs_add_up_and_an_unknown_price_stays_unknown() -> None:
    total = Cost(1.0, 2, 3, 1) + Cost(0.5, 1, 1, 1, unknown=True)
    assert total == Cost(1.5, 3, 4, 2, unknown=True)
    assert (total + Cost()).unknown


@pytest.mark.invariant("I16")
@given(st.integers(-5, 10**6), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 6 * 3600))
def test_backoff_has_a_floor_a_ceiling_and_never_undercuts_the_server(
    failures: int, jitter: float, retry_after: float | None
) -> None:
    wait = backoff(failures, jitter, retry_after)
    assert wait >= max(BACKOFF_FIRST_S / 2, retry_after or 0.0)
    assert wait <= max(BACKOFF_MOST_S, retry_after or 0.0)
    assert backoff(failures + 1, jitter) >= backoff(failures, jitter)


@pytest.mark.invariant("I16")
def test_backoff_doubles_and_spreads() -> None:
    assert [backoff(n, 0.0) for n in range(1, 8)] == [15, 30, 60, 120, 240, 450, 450]
    assert len({backoff(3, n / 10) for n in range(10)}) == 10


# --- settings ------------------------------------------------------------------------------------------------------
def test_later_layers_win_and_leave_the_rest() -> None:
    operator = Layer("fleet.toml", "[caps]\ntickets = 8\nper_repo = 3\n[limits]\nusd = 5.0\n")
    tenant = Layer("tenant", "[caps]\nper_repo = 1\n")
    repo = Layer(".fleet.toml", "[limits]\nusd = 1.5\n[gates]\nanything = 1\n")
    made = resolve(operator, tenant, repo)
    assert (made.caps.tickets, made.caps.per_repo, made.limits.usd) == (8, 1, 1.5)
    assert made.limits.attempts == TicketLimits().attempts
    assert resolve() == Settings()


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "usd": st.floats(0, 50),
        "model_calls": st.integers(0, 500),
        "attempt_seconds": st.floats(0, 9000),
        "attempts": st.integers(0, 9),
        "gate_rounds": st.integers(0, 9),
    },
)


def toml(values: dict[str, float]) -> str:
    return "[limits]\n" + "".join(f"{key} = {value!r}\n" for key, value in values.items())


@pytest.mark.invariant("I22")
@given(LIMITS, LIMITS)
def test_a_repository_is_never_looser_than_the_floor(floor: dict[str, float], asked: dict[str, float]) -> None:
    allowed = resolve(Layer("fleet.toml", toml(floor))).limits
    looser = [key for key, value in asked.items() if value > getattr(allowed, key)]
    try:
        made = tighten(allowed, Layer(".fleet.toml", toml(asked)))
    except SettingsError as error:
        assert looser
        assert re.search(r"\.fleet\.toml, line \d+: limits\.\w+ = .* is looser", str(error))
        return
    assert not looser
    assert all(getattr(made, one.name) <= getattr(allowed, one.name) for one in fields(TicketLimits))
    assert all(getattr(made, key) == value for key, value in asked.items())


@pytest.mark.invariant("I22")
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "true", '"2"', "[]", "99999999999999999999"])
@pytest.mark.parametrize("key", [one.name for one in fields(TicketLimits) if one.name != "unknown_prices"])
def test_an_odd_value_does_not_loosen_a_limit(key: str, value: str) -> None:
    floor = TicketLimits()
    with pytest.raises(SettingsError) as caught:
        made = tighten(floor, Layer(".fleet.toml", f"[limits]\n{key} = {value}\n"))
        assert 0 <= getattr(made, key) <= getattr(floor, key), f"{key} = {value} is now {getattr(made, key)}"
    assert "line 2" in str(caught.value)


@pytest.mark.invariant("I22")
def test_naming_a_dollar_limit_stops_unknown_prices_and_a_repository_cannot_allow_them() -> None:
    named = resolve(Layer("fleet.toml", "[limits]\nusd = 5.0\n")).limits
    assert not named.unknown_prices
    assert resolve(Layer("fleet.toml", "[limits]\nusd = 5.0\nunknown_prices = true\n")).limits.unknown_prices
    with pytest.raises(SettingsError, match=r"line 2: limits\.unknown_prices = True is looser"):
        tighten(named, Layer(".fleet.toml", "[limits]\nunknown_prices = true\n"))
    assert not tighten(TicketLimits(), Layer(".fleet.toml", "[limits]\nunknown_prices = false\n")).unknown_prices


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[caps]\ntickets = 'many'\n", 2, "caps.tickets"),
        ("\n\n[caps]\ntikets = 4\n", 4, "Did you mean tickets?"),
        ("[caps]\ntickets = 4\n[capz]\ntickets = 4\n", 3, "Did you mean caps?"),
        ("caps = 3\n", 1, "caps"),
        ("[sandbox]\ntiers = 'bubblewrap'\n", 2, "sandbox.tiers"),
        ("[sandbox]\ntiers = [1]\n", 2, "sandbox.tiers"),
        ("caps.tickets = 'x'\n", 1, "caps.tickets"),
        ("[caps\n", 1, "not valid TOML"),
        ("[caps]\na = 1\na = 2\n", 3, "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(Layer("fleet.toml", text))
    assert said in str(caught.value)
    assert f"line {line}" in str(caught.value)
    assert str(caught.value).startswith("fleet.toml")


def test_the_environment_is_a_layer() -> None:
    layer = from_environment({"FLEET_CAPS_TICKETS": "9", "FLEET_HOME_DURABILITY": "forge", "FLEET_OTHER": "x"})
    assert layer is not None
    made = resolve(layer)
    assert (made.caps.tickets, made.home.durability) == (9, "forge")
    assert from_environment({"PATH": "/bin"}) is None
    bad = from_environment({"FLEET_CAPS_TICKETS": "many"})
    with pytest.raises(SettingsError, match=r"the environment.*caps\.tickets"):
        resolve(bad)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_no_value_of_the_environment_can_set_another_setting(value: str) -> None:
    layer = from_environment({"FLEET_HOME_DURABILITY": value})
    try:
        made = resolve(layer)
    except SettingsError:
        return
    assert made.caps == Settings().caps
    assert made.home.durability == value
