"""Tenants' settings: they may only tighten, whatever is written where (I22)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.settings import Layer, Settings, SettingsError, resolve, tighten
from fleet.core.tenants import TenantSettings, limits_of, others, tenant_of
from fleet.core.ticket import TicketLimits
from tests.support.mutants import Mutant

TEXT = """\
[caps]
per_tenant = 3
[limits]
usd = 4.0
[budget]
day_usd = 30.0
tenant_usd = 12.0
[tenants.payments]
repos = ["acme/pay-*", "acme/bank"]
tickets = 2
day_usd = 5.0
[tenants.payments.limits]
usd = 1.5
attempts = 2
[tenants.web]
repos = ["acme/*"]
"""


def test_a_repository_belongs_to_the_first_tenant_that_names_it() -> None:
    made = resolve(Layer("fleet.toml", TEXT))
    owners = {repo: tenant_of(made.tenants, repo) for repo in ("acme/pay-api", "Acme/Bank", "acme/site", "other/x")}
    assert owners == {"acme/pay-api": "payments", "Acme/Bank": "payments", "acme/site": "web", "other/x": "default"}
    assert others(made.tenants, "web") == ("default", "payments")
    pay, web = made.limits_for("acme/pay-api"), made.limits_for("acme/site")
    assert (pay.usd, pay.attempts, pay.unknown_prices) == (1.5, 2, False) and web == made.limits
    assert [made.money().tenant(name) for name in ("payments", "web", "default")] == [5.0, 12.0, 12.0]
    repo = tighten(pay, Layer(".fleet.toml", "[limits]\nusd = 1.0\n"))
    assert repo.usd == 1.0
    with pytest.raises(SettingsError, match=r"looser than the operator's 1\.5"):
        tighten(pay, Layer(".fleet.toml", "[limits]\nusd = 2.0\n"))


@pytest.mark.invariant("I22")
@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("tickets = 2", "tickets = 4", 10, "tenants.payments.tickets = 4 is looser than the operator's 3"),
        ("day_usd = 5.0", "day_usd = 12.5", 11, "tenants.payments.day_usd = 12.5 is looser than the operator's 12.0"),
        ("usd = 1.5", "usd = 4.5", 13, "tenants.payments.limits.usd = 4.5 is looser than the operator's 4.0"),
        ("attempts = 2", "attempts = 9", 14, "tenants.payments.limits.attempts = 9 is looser"),
        ("attempts = 2", "unknown_prices = true", 14, "unknown_prices = True is looser"),
        ("tickets = 2", "tikets = 2", 10, "Did you mean tickets?"),
        ("attempts = 2", "attempt = 2", 14, "Did you mean attempts?"),
        ("usd = 1.5", "usd = nan", 13, "is no amount"),
        ("[tenants.web]", '[tenants."../x"]', 0, "is no table of a tenant"),
    ],
)
def test_what_is_looser_or_wrong_is_refused_with_its_line(old: str, new: str, line: int, said: str) -> None:
    assert TEXT.count(old) == 1 or old == "usd = 1.5"
    with pytest.raises(SettingsError) as caught:
        resolve(Layer("fleet.toml", TEXT.replace(old, new)))
    assert said in f"{caught.value}"
    assert not line or f"fleet.toml, line {line}:" in str(caught.value)


NUMBERS = {one.name: st.integers(0, 9) if one.type == "int" else st.floats(0, 9) for one in fields(TicketLimits)}
LIMITS = st.fixed_dictionaries({}, optional={**NUMBERS, "unknown_prices": st.booleans()})


def toml(head: str, values: dict[str, Any]) -> str:
    return f"[{head}]\n" + "".join(f"{key} = {str(value).lower()}\n" for key, value in values.items())


@pytest.mark.invariant("I22")
@given(LIMITS, LIMITS, LIMITS, LIMITS, st.floats(0, 99), st.floats(0, 99), st.floats(0, 99), st.integers(0, 9))
def test_what_counts_is_never_weaker_than_the_operators_floor(
    operator: dict[str, Any],
    tenant: dict[str, Any],
    repo: dict[str, Any],
    later: dict[str, Any],
    day: float,
    share: float,
    late_day: float,
    tickets: int,
) -> None:
    """File, tenant, variables and repository say anything: it is refused, or what counts is the floor or tighter."""
    mine = {"repos": ["a/*"], "tickets": tickets, "day_usd": share}
    head = "".join(f"{key} = {value!r}\n" for key, value in mine.items())
    text = (
        f"{toml('limits', operator)}[budget]\nday_usd = {day!r}\n[tenants.a]\n{head}{toml('tenants.a.limits', tenant)}"
    )
    variables = Layer("the environment", f"{toml('limits', later)}[budget]\nday_usd = {late_day!r}\n")
    try:
        made = resolve(Layer("fleet.toml", text), variables)
        limits = tighten(made.limits_for("a/x"), Layer(".fleet.toml", toml("limits", repo)))
    except SettingsError:
        return
    for one in fields(TicketLimits):
        assert getattr(limits, one.name) <= getattr(made.limits, one.name), one.name
    money = made.money()
    assert money.tenant("a") <= min(share, late_day) and money.tenant("b") <= late_day
    assert money.fleet <= 31 * late_day


@pytest.mark.invariant("I22")
@given(LIMITS)
def test_a_floor_that_came_down_later_counts(asked: dict[str, Any]) -> None:
    floor = TicketLimits(usd=0.5, model_calls=3, tokens=4, unknown_prices=False, attempt_seconds=1.0, attempts=1)
    made = limits_of(floor, TenantSettings(limits=asked))
    assert all(getattr(made, one.name) <= getattr(floor, one.name) for one in fields(TicketLimits))
    assert type(made.attempts) is int


def test_no_tenants_is_the_fleet_as_it_was() -> None:
    assert resolve().tenants == {} and Settings().limits_for("a/b") == TicketLimits()


@pytest.mark.parametrize(
    ("mutant", "text"),
    [
        (Mutant("fleet.core.settings:_tenant", "asked > floor", "False"), TEXT.replace("tickets = 2", "tickets = 4")),
        (
            Mutant("fleet.core.settings:_tenant", 'tighten(settings.limits, layer, limits, f"{group}.limits")', "pass"),
            TEXT.replace("usd = 1.5", "usd = 4.5"),
        ),
    ],
    ids=["a share", "a limit"],
)
def test_a_loosening_that_is_let_through_is_noticed(mutant: Mutant, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.core import settings

    layer = Layer("fleet.toml", text)
    with pytest.raises(settings.SettingsError, match="looser than the operator's"):
        settings.resolve(layer)
    mutant.install(monkeypatch)
    assert settings.resolve(layer).tenants, "the protection is off, and the looser value goes through"


def test_a_floor_that_does_not_count_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.core import tenants

    tight, asked = TicketLimits(usd=0.5), TenantSettings(limits={"usd": 1.5})
    assert tenants.limits_of(tight, asked).usd == 0.5
    Mutant("fleet.core.tenants:limits_of", "min(value, getattr(floor, name))", "value").install(monkeypatch)
    assert tenants.limits_of(tight, asked).usd == 1.5
