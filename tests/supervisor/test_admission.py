"""``choose``: who may start next, whatever waits and whatever is taken. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from supervisor import admission
from supervisor.admission import Caps, Choice, Request, _blocked, choose, holds, reconcile
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

requests = st.builds(
    Request,
    ticket=st.integers(1, 60).map(lambda n: f"t-{n}"),
    attempt=st.integers(1, 3),
    tenant=st.sampled_from(["one", "two", "three"]),
    repo=st.sampled_from(["a/x", "a/y", "b/z"]),
    priority=st.integers(0, 2),
    at=st.integers(0, 9).map(float),
)
tables = st.lists(requests, max_size=25).map(lambda rows: {row.key: row for row in rows})
pulls = st.dictionaries(st.integers(1, 20).map(str), st.sampled_from(["a/x", "a/y", "b/z"]), max_size=12)
caps = st.builds(Caps, st.integers(0, 8), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))


def over(held: dict[str, Request], limits: Caps) -> dict[str, int]:
    """By how much each cap is exceeded."""
    tenants, repos = Counter(one.tenant for one in held.values()), Counter(one.repo for one in held.values())
    return {
        "fleet": max(0, len(held) - limits.fleet),
        **{f"tenant {name}": max(0, count - limits.tenant) for name, count in tenants.items()},
        **{f"repo {name}": max(0, count - limits.repo) for name, count in repos.items()},
    }


def caps_hold(
    waiting: dict[str, Request], grants: dict[str, Request], open_pulls: dict[str, str], limits: Caps
) -> None:
    made = choose(waiting, grants, open_pulls, limits)
    before = over(grants, limits)
    after = over({**grants, **{one.key: one for one in made.granted}}, limits)
    assert {name: extra for name, extra in after.items() if extra > before.get(name, 0)} == {}
    # Whoever is at work may open one more.
    may = Counter(open_pulls.values()) + Counter(one.repo for one in (*grants.values(), *made.granted))
    assert all(may[one.repo] <= limits.open_pull_requests for one in made.granted)


@given(tables, tables, pulls, caps)
def test_no_cap_is_exceeded_whatever_waits(
    waiting: dict[str, Request], grants: dict[str, Request], open_pulls: dict[str, str], limits: Caps
) -> None:
    caps_hold(waiting, grants, open_pulls, limits)


@given(tables, tables, pulls, caps)
def test_everyone_who_waits_is_granted_or_told_why_and_nobody_twice(
    waiting: dict[str, Request], grants: dict[str, Request], open_pulls: dict[str, str], limits: Caps
) -> None:
    made = choose(waiting, grants, open_pulls, limits)
    granted = [one.key for one in made.granted]
    assert len(set(granted)) == len(granted)
    assert not set(granted) & set(grants), "a place once given is not given again"
    for key, request in waiting.items():
        assert key in grants or key in granted or made.why[request.ticket]
    again = choose(waiting, {**grants, **{one.key: one for one in made.granted}}, open_pulls, limits)
    assert again.granted == (), "no free place was left unused, and none appears by asking again"


def simple(waiting: dict[str, Request], grants: dict[str, Request], limits: Caps) -> list[str]:
    """The rule as one says it: the next is always the best of those that may."""
    held, order = dict(grants), list[str]()
    while True:
        tenants, repos = Counter(one.tenant for one in held.values()), Counter(one.repo for one in held.values())
        may = [
            one
            for one in waiting.values()
            if one.key not in held
            and len(held) < limits.fleet
            and tenants[one.tenant] < limits.tenant
            and repos[one.repo] < limits.repo
        ]
        if not may:
            return order
        best = min(may, key=lambda one: (-one.priority, tenants[one.tenant], repos[one.repo], one.at, one.key))
        held[best.key] = best
        order.append(best.key)


@settings(max_examples=300)
@given(tables, tables, caps)
def test_the_order_is_priority_fairness_age(
    waiting: dict[str, Request], grants: dict[str, Request], limits: Caps
) -> None:
    limits = replace(limits, open_pull_requests=99)
    assert [one.key for one in choose(waiting, grants, {}, limits).granted] == simple(waiting, grants, limits)


def ordered_anew(
    waiting: Mapping[str, Request], grants: Mapping[str, Request], pulls: Mapping[str, str], caps: Caps
) -> Choice:
    """``choose`` as it was: everybody who waits is ordered again after each grant."""
    tenants = Counter(grant.tenant for grant in grants.values())
    repos = Counter(grant.repo for grant in grants.values())
    open_pulls = Counter(pulls.values())
    granted: list[Request] = []
    why: dict[str, str] = {}
    left = [request for request in waiting.values() if request.key not in grants]
    while left:
        left.sort(key=lambda r: (-r.priority, tenants[r.tenant], repos[r.repo], r.at, r.key))
        live, first = len(grants) + len(granted), 0
        while first < len(left) and (reason := _blocked(left[first], live, tenants, repos, open_pulls, caps)):
            why[left[first].ticket] = reason
            first += 1
        if first == len(left):
            break
        request = left[first]
        granted.append(request)
        tenants[request.tenant] += 1
        repos[request.repo] += 1
        left = left[first + 1 :]
    return Choice(tuple(granted), why)


def same_choice(
    waiting: dict[str, Request], grants: dict[str, Request], open_pulls: dict[str, str], limits: Caps
) -> None:
    assert admission.choose(waiting, grants, open_pulls, limits) == ordered_anew(waiting, grants, open_pulls, limits)


@settings(max_examples=200)
@given(tables, tables, pulls, caps, st.dictionaries(st.sampled_from(["one", "two"]), st.integers(0, 3)))
def test_the_same_are_granted_and_told_the_same_as_if_all_were_ordered_anew(
    waiting: dict[str, Request],
    grants: dict[str, Request],
    open_pulls: dict[str, str],
    limits: Caps,
    own: dict[str, int],
) -> None:
    same_choice(waiting, grants, open_pulls, replace(limits, tenants=own))


@pytest.mark.parametrize(
    ("old", "new"),
    [("if told != now:", "if False:"), ("-first.priority", "first.priority"), ("first.at, ", "-first.at, ")],
)
def test_an_order_that_is_not_kept_is_noticed(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    rows = [Request(f"t-{n}", 1, f"{n % 2}", f"a/{n % 3}", n // 8, float(9 - n % 5)) for n in range(12)]
    waiting = {row.key: row for row in rows}
    same_choice(waiting, {}, {}, Caps(6, 3, 3, 9))
    Mutant("supervisor.admission:choose", old, new).install(monkeypatch)
    with pytest.raises(AssertionError):
        same_choice(waiting, {}, {}, Caps(6, 3, 3, 9))


@pytest.mark.invariant("I22")
def test_a_greedy_tenant_does_not_keep_another_waiting() -> None:
    """One tenant asks for two hundred places first; the other's single ticket is next all the same."""
    greedy = [Request(f"g-{n}", 1, "greedy", f"g/{n % 7}", 0, float(n)) for n in range(200)]
    modest = Request("m-1", 1, "modest", "m/x", 0, 1e9)
    waiting = {one.key: one for one in (*greedy, modest)}
    for taken in range(4):
        grants = {one.key: one for one in greedy[:taken]}
        made = choose(waiting, grants, {}, Caps(fleet=4, tenant=4, repo=4))
        if taken:
            assert made.granted[0] == modest
        else:
            assert modest in made.granted


@given(st.lists(requests, min_size=1, max_size=30), st.integers(1, 3))
def test_nobody_starves(rows: list[Request], places: int) -> None:
    """Places come free in any order: after as many rounds as there are requests everybody had one."""
    waiting = {row.key: row for row in rows}
    served: set[str] = set()
    for _ in range(len(waiting)):
        made = choose(waiting, {}, {}, Caps(places, places, places))
        served |= {one.key for one in made.granted}
        waiting = {key: one for key, one in waiting.items() if key not in served}
    assert not waiting


def test_thousands_that_wait_are_ordered_once_per_place() -> None:
    """Not once per request: the desk asks on every pass."""
    compared = Counter[str]()

    class Counted(str):
        __slots__ = ()

        def __hash__(self) -> int:
            compared["looked up"] += 1
            return super().__hash__()

    waiting = {f"t-{n}:1": Request(f"t-{n}", 1, Counted("one"), "a/x", 0, float(n)) for n in range(2000)}
    made: Choice = choose(waiting, {}, {}, Caps(4, 4, 4))
    assert [one.ticket for one in made.granted] == ["t-0", "t-1", "t-2", "t-3"]
    assert compared["looked up"] < 10 * len(waiting)


@pytest.mark.parametrize(
    ("state", "attempt", "held"),
    [
        (State.QUEUED, 2, True),
        (State.QUEUED, 1, False),
        (State.STARTING, 1, True),
        (State.RUNNING, 1, True),
        (State.RUNNING, 2, False),
        (State.GATING, 1, False),
        (State.CANCELLED, 1, False),
        (State.PARKED, 1, False),
    ],
)
def test_a_place_is_held_while_it_is_needed(state: State, attempt: int, held: bool) -> None:
    view = TicketView(ticket(), state, Reason.ACCEPTED, since=1.0, attempt=1)
    grant = Request(view.id, attempt, "default", "local/demo", 0, 1.0)
    assert holds(view, attempt) is held
    assert reconcile({grant.key: grant}, {view.id: view}) == (() if held else (grant.key,))
    assert reconcile({grant.key: grant}, {}) == (grant.key,)


@pytest.mark.parametrize(
    ("old", "limits"),
    [
        ("live >= caps.fleet", Caps(1, 9, 9, 9)),
        ("tenants[request.tenant] >= caps.of(request.tenant)", Caps(9, 1, 9, 9)),
        ("repos[request.repo] >= caps.repo", Caps(9, 9, 1, 9)),
        ("pulls[request.repo] + repos[request.repo] >= caps.open_pull_requests", Caps(9, 9, 9, 1)),
    ],
)
def test_a_cap_switched_off_is_noticed(monkeypatch: pytest.MonkeyPatch, old: str, limits: Caps) -> None:
    rows = [Request(f"t-{n}", 1, "one", "a/x", 0, float(n)) for n in range(3)]
    waiting, open_pulls = {row.key: row for row in rows}, {"t-9": "a/x"}
    caps_hold(waiting, {}, open_pulls, limits)
    Mutant("supervisor.admission:_blocked", old, "False").install(monkeypatch)
    with pytest.raises(AssertionError):
        caps_hold(waiting, {}, open_pulls, limits)


def test_a_place_is_kept_for_the_pull_request_of_whoever_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Request(f"t-{n}", 1, "one", "a/x", 0, float(n)) for n in range(5)]
    held = {rows[0].key: rows[0]}
    waiting, limits = {row.key: row for row in rows[1:]}, Caps(9, 9, 9, 3)
    caps_hold(waiting, held, {"t-9": "a/x"}, limits)
    assert [one.ticket for one in choose(waiting, held, {"t-9": "a/x"}, limits).granted] == ["t-1"]
    why = choose(waiting, held, {"t-9": "a/x"}, limits).why["t-2"]
    assert "3 pull requests" in why and "merge or close one" in why
    old = "pulls[request.repo] + repos[request.repo]"
    mutant = Mutant("supervisor.admission:_blocked", f"if {old} >=", "if pulls[request.repo] >=")
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        caps_hold(waiting, held, {"t-9": "a/x"}, limits)
