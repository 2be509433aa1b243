"""Every class of failure goes its own way and comes to an end, for one ticket and for two hundred at once (I16)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import accumulate

import pytest

from fleet.adapters.acl import Role
from fleet.core.effects import EffectKind
from fleet.core.errors import FleetError
from fleet.core.events import (
    AttemptFailed,
    Envelope,
    GatesFailed,
    GatesFinished,
    PublishFailed,
    PublishProblem,
    Source,
)
from fleet.core.retry import FailureClass, backoff
from fleet.core.states import Reason, State
from fleet.core.ticket import TicketLimits
from fleet.core.view import News, TicketView
from supervisor.admission import Caps
from supervisor.decide import decide
from supervisor.decision import Moment
from supervisor.fold import fold
from supervisor.policy import Policy
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

POLICY = Policy()
LOST, STALLED = "lost", "stalled"
Cause = FailureClass | str


def ends(
    cause: Cause,
    said: Callable[[int], str] = lambda _: "It does not work.",
    agent: str = "anthropic",
    attempts: int = 9,
    jitter: float = 0.5,
    retry_after: float | None = None,
) -> tuple[TicketView, list[float]]:
    """A ticket whose every attempt fails of ``cause``: where it ends, and the pauses before each next attempt."""
    wanted = ticket(agent=agent, limits=TicketLimits(attempts=attempts))
    view, now, pauses = TicketView(wanted, State.QUEUED, Reason.ACCEPTED, since=1.0, version=1), 1e9, list[float]()
    for number in range(1, 300):
        view = replace(view, state=State.RUNNING, attempt=number, slot=number, news=News(), until=None)
        moment = Moment(now, jitter=jitter)
        if isinstance(cause, FailureClass):
            view = replace(view, news=News(failure=AttemptFailed(cause, said(number), "", retry_after)))
        else:
            moment = replace(moment, silent=POLICY.lost_after + 1)
        view = step(view, moment)
        if view.state is not State.BACKING_OFF:
            return view, pauses
        assert view.until is not None
        pauses.append(view.until - now)
        now = view.until
        view = step(view, Moment(now, jitter=jitter))
        assert view.state is State.QUEUED
    raise AssertionError(f"{cause} has no end")


def step(view: TicketView, moment: Moment) -> TicketView:
    decision = decide(view, moment, POLICY)
    assert decision is not None
    event = Envelope("default", view.id, view.attempt, 0, moment.now, decision.event, Source.SUPERVISOR)
    return fold(view, event)


def differs(number: int) -> str:
    return "no" * number


S, R, F = State, Reason, FailureClass
TABLE: list[tuple[Cause, Callable[[int], str], str, int, tuple[State, Reason], int]] = [
    # cause, what it says, agent, attempts allowed → end, after how many attempts
    (F.TRANSIENT, differs, "anthropic", 3, (S.PARKED, R.CONFIG), 20),
    (F.PROVIDER_LIMIT, differs, "anthropic", 3, (S.PARKED, R.CONFIG), 100),
    (F.HANDED_BACK, differs, "anthropic", 3, (S.PARKED, R.CONFIG), 100),
    (F.CANCELLED, differs, "anthropic", 3, (S.PARKED, R.CONFIG), 100),
    (F.AGENT_ERROR, differs, "anthropic", 5, (S.ESCALATED, R.ATTEMPTS_USED_UP), 5),
    (F.AGENT_ERROR, lambda n: f"Refused at 0x{n}f after {n} s.", "anthropic", 9, (S.ESCALATED, R.POISON), 3),
    (F.DEADLINE, lambda _: "Not within 1800 s.", "anthropic", 9, (S.ESCALATED, R.POISON), 3),
    (F.CRASHED, differs, "anthropic", 9, (S.ESCALATED, R.POISON), 3),
    (F.CRASHED, differs, "command:true", 9, (S.ESCALATED, R.POISON), 3),
    (F.PROTOCOL, differs, "anthropic", 9, (S.ESCALATED, R.POISON), 3),
    (F.NOTHING_CHANGED, differs, "anthropic", 9, (S.ESCALATED, R.POISON), 3),
    (LOST, differs, "anthropic", 9, (S.ESCALATED, R.POISON), 3),
    (LOST, differs, "anthropic", 2, (S.ESCALATED, R.ATTEMPTS_USED_UP), 2),
    (F.CONFIG, differs, "anthropic", 9, (S.PARKED, R.CONFIG), 1),
    (F.NO_SANDBOX, differs, "anthropic", 9, (S.PARKED, R.NO_SANDBOX), 1),
    (F.BUDGET, differs, "anthropic", 9, (S.PARKED, R.BUDGET), 1),
    (F.NEEDS_INPUT, differs, "anthropic", 9, (S.PARKED, R.NEEDS_INPUT), 1),
    (F.COMMAND_FAILED, differs, "command:true", 9, (S.REJECTED, R.COMMAND_FAILED), 1),
    (F.NOTHING_CHANGED, differs, "command:true", 9, (S.REJECTED, R.NOTHING_CHANGED), 1),
    (F.DEADLINE, differs, "command:true", 9, (S.REJECTED, R.COMMAND_FAILED), 1),
]


def every_class_ends(rows: Iterable[tuple[Cause, Callable[[int], str], str, int, tuple[State, Reason], int]]) -> None:
    for cause, said, agent, attempts, end, after in rows:
        view, pauses = ends(cause, said, agent, attempts)
        assert ((view.state, view.reason), len(pauses) + 1) == (end, after), cause
        assert view.detail, "a person is told why"
        asked = int(end == (S.PARKED, R.NEEDS_INPUT))
        assert view.hand_backs == (len(pauses) if end == (S.PARKED, R.CONFIG) else asked), (
            "what waited counts no attempt"
        )


@pytest.mark.invariant("I16")
def test_every_class_of_failure_has_its_way_and_its_end() -> None:
    every_class_ends(TABLE)
    assert {row[0] for row in TABLE} >= set(FailureClass), "no class without a row"


VERDICT = GatesFinished(1, "h" * 40, "b" * 40, False, "1 new failure")
BROKEN, AWAY = GatesFailed(1, "no runner"), GatesFailed(1, "no index", outage=True)
REPEATED: list[tuple[State, News | None, int, tuple[State, Reason], int]] = [
    # state, what its worker says (None: nothing at all), attempts allowed → end, after how many times
    (S.GATING, News(verdict=VERDICT), 9, (S.REJECTED, R.GATES_RED), 3),
    (S.GATING, News(verdict=VERDICT), 2, (S.ESCALATED, R.ATTEMPTS_USED_UP), 2),
    (S.GATING, News(gates_failed=GatesFailed(1, "conflict", conflict=True)), 4, (S.ESCALATED, R.ATTEMPTS_USED_UP), 4),
    (S.GATING, News(gates_failed=BROKEN), 9, (S.ESCALATED, R.POISON), 3),
    (S.GATING, News(gates_failed=AWAY), 9, (S.PARKED, R.CONFIG), 20),
    (S.GATING, None, 9, (S.ESCALATED, R.POISON), 3),
    (
        S.PUBLISHING,
        News(publish_failed=PublishFailed(1, PublishProblem.FORGE_DOWN, "502")),
        9,
        (S.PARKED, R.CONFIG),
        20,
    ),
    (
        S.PUBLISHING,
        News(publish_failed=PublishFailed(1, PublishProblem.BASE_MOVED, "moved")),
        9,
        (S.ESCALATED, R.POISON),
        3,
    ),
    (S.PUBLISHING, None, 9, (S.ESCALATED, R.POISON), 8),
    (S.STARTING, None, 9, (S.PARKED, R.CONFIG), 100),
]


@pytest.mark.invariant("I16")
@pytest.mark.parametrize(("state", "news", "attempts", "end", "after"), REPEATED)
def test_gates_publishing_and_claims_end_however_often_they_are_repeated(
    state: State, news: News | None, attempts: int, end: tuple[State, Reason], after: int
) -> None:
    wanted = ticket(agent="anthropic", limits=TicketLimits(attempts=attempts))
    view = TicketView(wanted, state, Reason.ACCEPTED, since=1.0, version=1, slot=1, head="h" * 40)
    for times in range(1, 300):
        view = replace(view, state=state, attempt=times, news=news or News(), until=None)
        silent = Moment(1e9, unclaimed=POLICY.claim_within + 1)
        if state is not S.STARTING:
            silent = Moment(1e9, silent=POLICY.lost_after + 1)
        view = step(view, Moment(1e9) if news else silent)
        if not view.state.active:
            assert ((view.state, view.reason), times) == (end, after)
            assert view.detail, "a person is told why"
            return
    raise AssertionError(f"{state} has no end")


@pytest.mark.invariant("I16")
def test_poison_says_what_a_person_can_do_even_where_attempts_remain() -> None:
    for cause, words in (
        (F.CRASHED, "memory"),
        (F.PROTOCOL, "say with `fleet steer`"),
        (LOST, "memory"),
        (F.DEADLINE, "agent"),
    ):
        view, _ = ends(cause, attempts=9)
        assert view.attempt == 3
        assert "3 attempts ended the same way" in view.detail
        assert words in view.detail


@pytest.mark.invariant("I16")
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_pauses_double_from_half_a_minute_to_a_quarter_of_an_hour(jitter: float) -> None:
    _, pauses = ends(F.TRANSIENT, jitter=jitter)
    ceilings = [min(900.0, 30.0 * 2**n) for n in range(len(pauses))]
    assert all(top / 2 <= pause <= top for pause, top in zip(pauses, ceilings, strict=True)), pauses
    assert pauses == sorted(pauses)


@pytest.mark.invariant("I19")
@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_an_outage_of_an_hour_and_a_half_needs_no_person_and_few_tries(jitter: float) -> None:
    _, pauses = ends(F.TRANSIENT, jitter=jitter)
    assert sum(pauses) > 90 * 60, "even the unluckiest draw waits that long"
    assert len([at for at in accumulate(pauses) if at <= 3600]) <= 12, "a ticket asks at most twelve times an hour"


@pytest.mark.invariant("I16")
def test_jitter_spreads_a_herd() -> None:
    assert len({round(backoff(4, jitter / 200), 3) for jitter in range(200)}) == 200


@pytest.mark.invariant("I16")
def test_a_server_that_asks_for_time_gets_it_within_reason() -> None:
    _, pauses = ends(F.PROVIDER_LIMIT, retry_after=3600.0)
    assert min(pauses) == 3600.0
    _, pauses = ends(F.PROVIDER_LIMIT, retry_after=1e12)
    assert max(pauses) <= 6 * 3600.0


# --- two hundred at once, through the real supervisor and the real ledger ------------------------------------------
MANY = 200


def herd(world: World, kinds: tuple[AttemptFailed, ...], attempts: int = 2) -> None:
    """Two hundred tickets in five repositories, most in one of them, that all fail."""
    supervisor = world.make(caps=Caps(fleet=4, tenant=9, repo=2), policy=Policy(outages=2, waits=2))
    tickets = [
        ticket(n, repo=f"local/r{n % 5 if n % 2 else 0}", limits=TicketLimits(attempts=attempts)) for n in range(MANY)
    ]
    kind = {one.id: kinds[n % len(kinds)] for n, one in enumerate(tickets)}
    repos = {one.id: one.repo for one in tickets}
    for one in tickets:
        world.players.accept(one)
    live: set[tuple[str, int]] = set()
    most, most_repo, wakes, begun = 0, 0, Counter[int](), Counter[str]()
    # What a claim writes is waited for on disk elsewhere; two hundred of them need not wait for it here.
    ledger, minute = world.ledger(Role.ATTEMPT), 60.0
    ledger._redis.append_only = False
    for _ in range(3000):
        world.turns(supervisor, 1, seconds=1.0)
        # Those that were begun a turn ago fail now; then whoever was woken begins.
        for name, attempt in sorted(live):
            world.players.attempt_says(name, attempt, kind[name])
        live.clear()
        woken, world.players.woken = world.players.woken, []
        for effect in woken:
            wakes[int(world.clock.monotonic() / minute)] += effect.kind is EffectKind.START_ATTEMPT
            if effect.kind is EffectKind.START_ATTEMPT and ledger.begin("agents", effect, "g"):
                live.add((effect.ticket, effect.attempt))
                begun[effect.ticket] += 1
        most = max(most, len(live))
        most_repo = max(most_repo, *Counter(repos[name] for name, _ in live).values(), 0)
        views = list(supervisor.views())
        if views and not any(view.state.active for view in views):
            break
        waiting = [view.until for view in views if view.state is State.BACKING_OFF and view.until is not None]
        if waiting and not live and all(v.state is State.BACKING_OFF or not v.state.active for v in views):
            world.clock.advance(max(0.0, min(waiting) - world.clock.now()))
    ended = {view.id: view for view in supervisor.views()}
    assert len(ended) == MANY
    assert not [view.id for view in ended.values() if view.state.active], "every ladder ends"
    assert most <= 4 and most_repo <= 2, (most, most_repo)
    assert max(wakes.values()) <= 4 * 60, "no more wake-ups a minute than places can turn over"
    assert max(begun.values()) <= attempts


@pytest.mark.invariant("I16")
def test_two_hundred_failing_tickets_stay_under_the_limits_and_end(world: World) -> None:
    herd(world, tuple(AttemptFailed(one, "no") for one in (F.AGENT_ERROR, F.CRASHED, F.PROVIDER_LIMIT, F.TRANSIENT)))


MUTANTS = {
    "outages end": Mutant("supervisor.retries:wait", "same >= most", "False"),
    "poison": Mutant("supervisor.retries:again", "deaths >= policy.same_death", "False"),
    "attempts": Mutant("supervisor.retries:used_up", ">= view.ticket.limits.attempts", ">= 10**9"),
    "deaths keyed by cause": Mutant("fleet.core.retry:death", "cause != Reason.AGENT_ERROR.value", "True"),
    "numbers are no difference": Mutant("fleet.core.retry:death", '_NUMBERS.sub("#", detail.lower())', "detail"),
    "what waited counts no attempt": Mutant("supervisor.fold:_counted", "if ended and", "if False and"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_class_without_its_policy_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name].install(monkeypatch)
    with pytest.raises((AssertionError, FleetError)):
        every_class_ends(TABLE)


@pytest.mark.parametrize("ceiling", ["live >= caps.fleet", "repos[request.repo] >= caps.repo"])
def test_a_herd_without_a_cap_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch, ceiling: str) -> None:
    Mutant("supervisor.admission:_blocked", ceiling, "False").install(monkeypatch)
    with pytest.raises(AssertionError):
        herd(world, (AttemptFailed(F.BUDGET, "$"),))
