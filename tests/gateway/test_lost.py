"""What a lost ledger had booked is still spent: for its ticket, its tenant, the day and the month (I8)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.adapters.redis_client import connect
from fleet.adapters.spend_journal import KEEP_DAYS, SpendJournal
from fleet.core.errors import TemporaryError
from fleet.core.journal import Entry, Lost, Used, lost
from fleet.core.recovery import Recovered, Taken
from fleet.core.spend import MICRO, Caps, Refusal, Reservation, Usage, day_of
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.gateway.books import Refused
from fleet.gateway.lost import at_each_level, less_what_was_lost
from tests.gateway.conftest import Place
from tests.gateway.test_budgets import CALL, USED, grant, until_refused, work
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

NOON = 1_767_268_800.0  # 2026-01-01, 12:00 UTC
CAPS = Caps(2 * MICRO, 100, 5000, 20 * MICRO, 10 * MICRO, 300 * MICRO, round(1.6 * MICRO))


def view(usd: float = 0.0, calls: int = 0, tokens: int = 0) -> TicketView:
    known = Recovered(State.QUEUED, Reason.RECOVERED, attempts=1, usd=usd, model_calls=calls, tokens=tokens)
    return TicketView(ticket(agent="anthropic"), State.RUNNING, Reason.CLAIMED, 0.0, recovered=known)


@pytest.mark.invariant("I8")
def test_every_limit_is_lowered_by_what_was_lost() -> None:
    taken = [Taken(NOON, 1.5), Taken(NOON, 2.0, "other"), Taken(NOON - 86_400 * 40, 9.0), Taken(NOON + 86_400, 4.0)]
    left = less_what_was_lost(CAPS, view(1.5, 30, 1000), taken, "2026-01-01", Lost())
    assert left == Caps(
        ticket_micros=500_000,
        calls=70,
        tokens=4000,
        day_micros=round(16.5 * MICRO),
        tenant_micros=round(8.5 * MICRO),
        fleet_micros=round(292.5 * MICRO),
        soft_micros=100_000,
    )
    assert less_what_was_lost(CAPS, replace(view(), recovered=None), (), "2026-01-01", Lost()) == CAPS
    never = replace(CAPS, soft_micros=-1)
    assert less_what_was_lost(never, view(9.0), (), "2026-01-01", Lost()).soft_micros == -1
    assert less_what_was_lost(CAPS, view(9.0), (), "2026-01-01", Lost()).soft_micros == 0, "it asks at once"


def used_up(place: Place) -> None:
    """A ticket whose calls were all made before its ledger was lost asks for one more."""
    made = work(place)
    known = Recovered(State.QUEUED, Reason.RECOVERED, attempts=1, model_calls=made.ticket.limits.model_calls)
    place.views[made.id] = replace(made, recovered=known)
    answer = grant(place, made)
    assert isinstance(answer, Refused) and answer.refusal is Refusal.CALLS
    assert place.book.ticket(made.id).calls == 0


@pytest.mark.invariant("I8")
def test_a_recovered_ticket_that_had_used_its_calls_makes_no_other(place: Place) -> None:
    used_up(place)


def test_a_gateway_that_forgets_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant(
        "fleet.gateway.lost:less_what_was_lost", "calls=caps.calls - max(calls, told.calls)", "calls=caps.calls"
    ).install(monkeypatch)
    with pytest.raises(AssertionError):
        used_up(place)


# --- the journal beside the store --------------------------------------------------------------------------------
def lose(place: Place, store: EmbeddedRedis) -> None:
    """The store is emptied, and the next ledger has another name."""
    admin = connect(store.address, "admin", store.password(Role.ADMIN))
    admin.flushall()
    admin.close()
    place.incarnation += "x"


def emptied_again_and_again(place: Place, store: EmbeddedRedis, ticket_usd: float, day_usd: float) -> set[Refusal]:
    """No comment told of any call. Every second one is still under way when the store is lost. What stopped it."""
    place.day_usd, spent, said = day_usd, 0, set[Refusal]()
    for number in range(1, 40):
        # A ticket of its own each time, where its limit is not what is looked at.
        view = work(place, number=1 if ticket_usd < day_usd else number, usd=ticket_usd)
        books = place.books()
        for call in range(2):
            answer = books.grant(view.id, view.attempt, "rehearsal", CALL)
            if isinstance(answer, Refused):
                said.add(answer.refusal)
                continue
            if call == 0:
                books.settle(answer, USED)
            # What is under way may still be billed in full.
            spent += answer.price.micros(USED) if call == 0 and answer.price else answer.reservation.micros
        assert spent <= min(ticket_usd, day_usd) * MICRO, "a loss of the store let it spend more"
        lose(place, store)
    assert spent > 0
    return said


@pytest.mark.invariant("I8")
@pytest.mark.parametrize(("ticket_usd", "day_usd", "refusal"), [(0.3, 20.0, Refusal.BUDGET), (2.0, 0.3, Refusal.DAY)])
def test_no_loss_lets_a_budget_be_passed(
    place: Place, store: EmbeddedRedis, ticket_usd: float, day_usd: float, refusal: Refusal
) -> None:
    assert emptied_again_and_again(place, store, ticket_usd, day_usd) == {refusal}


JOURNAL_MUTANTS = {
    "a call is not noted": (
        Mutant("fleet.gateway.books:Books._reserve", "self._note(incarnation, reservation)", "pass"),
        0.3,
    ),
    "a ticket's calls are forgotten": (
        Mutant("fleet.gateway.lost:less_what_was_lost", "max(_micros(usd), told.micros)", "_micros(usd)"),
        0.3,
    ),
    "other tickets' calls are forgotten": (
        Mutant(
            "fleet.gateway.lost:less_what_was_lost",
            "before, told = view.recovered, lost.ticket(view.id)",
            "before, told, lost = view.recovered, lost.ticket(view.id), Lost()",
        ),
        2.0,
    ),
    "a call under way counts nothing": (
        Mutant("fleet.adapters.spend_journal:SpendJournal.set_aside", "call.micros", "0"),
        0.3,
    ),
}


@pytest.mark.parametrize("name", JOURNAL_MUTANTS)
def test_without_the_journal_a_loss_is_noticed(
    place: Place, store: EmbeddedRedis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant, ticket_usd = JOURNAL_MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        emptied_again_and_again(place, store, ticket_usd, 20.0 if ticket_usd < 1 else 0.3)


def test_a_call_that_cannot_be_noted_is_not_made(place: Place) -> None:
    (place.folder / "spend").write_text("where the folder should be")
    view = work(place)
    with pytest.raises(TemporaryError, match="cannot be"):
        grant(place, view)
    assert (place.book.ticket(view.id).reserved, place.book.ticket(view.id).micros) == (0, 0)


def test_the_journal_of_this_ledger_is_no_other_s(place: Place) -> None:
    until_refused(place, work(place, usd=0.1), USED)
    assert place.journal.lost(place.incarnation) == Lost()
    told = place.journal.lost("another").ticket("default-1")
    booked = place.book.ticket("default-1")
    assert (told.micros, told.calls) == (booked.micros, booked.calls)
    assert place.journal.lost("another").day(day_of(SystemClock().now())) == booked.micros


def call(name: str, day: str = "2026-01-01") -> Reservation:
    return Reservation(name, "t-1", 1, day, 100, 50, tenant="red")


def test_a_line_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    journal = SpendJournal(tmp_path / "spend")
    journal.set_aside("one", call("a"))
    (file,) = (tmp_path / "spend").iterdir()
    with file.open("ab") as end:
        end.write(b'\n{"reservation":{"id":"tor')
    journal.set_aside("one", call("b"))
    journal.settle("one", call("a"), 7, Usage(output_tokens=3))
    assert journal.lost("two").ticket("t-1") == Used(107, 2, 53)
    assert (journal.lost("two").month("2026-01"), journal.lost("two").tenant("red", "2026-01-01")) == (107, 107)
    journal.settle("one", call("b"), 1, Usage())
    assert journal.lost("two").ticket("t-1").micros == 8, "what comes later is read, too"


def test_the_journal_is_bounded(tmp_path: Path) -> None:
    journal = SpendJournal(tmp_path / "spend")
    for day in ("2026-01-01", "2026-02-01", "2026-04-01"):
        journal.set_aside("one", call(day, day))
    kept = sorted(path.name for path in (tmp_path / "spend").iterdir())
    assert kept == ["2026-02-01.one.jsonl", "2026-04-01.one.jsonl"] and KEEP_DAYS < 90


def test_a_call_counts_once_and_by_its_last_line() -> None:
    assert lost([Entry(call("a"), 100, 50), Entry(call("a"), 0, 0)]).ticket("t-1") == Used(0, 1, 0)
    assert lost([]) == Lost()


def test_levels_are_counted_by_the_higher_record() -> None:
    known = lost([Entry(call("a"), 3 * MICRO, 0)])
    few, many = [Taken(NOON, 1.0, "red")], [Taken(NOON, 5.0, "red"), Taken(NOON, 2.0)]
    assert at_each_level(few, known, "2026-01-01", "red") == (3 * MICRO,) * 3
    assert at_each_level(many, known, "2026-01-01", "red") == (7 * MICRO, 5 * MICRO, 7 * MICRO)
    assert at_each_level((), known, "2026-01-02", "red") == (0, 0, 3 * MICRO), "another day of the month"
