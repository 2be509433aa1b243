"""One issue, one open ticket; on disk before anybody is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.adapters import keys
from fleet.adapters.clock import SystemClock
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import FleetRedis
from fleet.core.codec import decode_event, encode
from fleet.core.errors import TemporaryError, UsageError
from fleet.core.events import Source, TicketAccepted
from fleet.core.states import Reason, State
from fleet.core.ticket import Criterion, Ticket, shard_of, text_hash
from fleet.core.view import TicketView
from fleet.intake.decide import NewTicket, Request, SameTicket, decide
from fleet.intake.service import IntakeService
from fleet.intake.text import IssueText, clean
from tests.support.mutants import Mutant

BODY = "Why.\n\n## Acceptance\n- [ ] It works\n- [x] It is fast"


def request(**changes: object) -> Request:
    values = {
        "repo": "ann/demo",
        "number": 7,
        "text": clean("Remove unused imports", BODY),
        "base": "main",
        "agent": "command:ruff check --fix .",
        "requested_by": "ann",
        **changes,
    }
    return Request(**values)  # type: ignore[arg-type]


class Known:
    """The record, as far as intake looks at it."""

    def __init__(self) -> None:
        self.views: dict[str, TicketView] = {}

    def __call__(self, ticket: str) -> TicketView | None:
        return self.views.get(ticket)

    def put(self, ticket: Ticket, state: State) -> None:
        self.views[ticket.id] = TicketView(ticket, state, Reason.ACCEPTED, 0.0)


def test_a_ticket_is_frozen_text_with_criteria() -> None:
    made = decide(request(), Known(), 5.0)
    assert isinstance(made, NewTicket)
    ticket = made.ticket
    assert (ticket.generation, ticket.branch, ticket.accepted_at) == (1, "fleet/7-remove-unused-imports", 5.0)
    assert ticket.criteria == (Criterion("It works"), Criterion("It is fast", done=True))
    assert ticket.text_hash == text_hash(ticket.title, ticket.body)


@pytest.mark.invariant("I2")
def test_a_repository_that_changes_hands_makes_no_second_ticket() -> None:
    known = Known()
    first = decide(request(tenant="default", others=("web",)), known, 1.0).ticket
    known.put(first, State.RUNNING)
    moved = request(tenant="web", others=("default",))
    assert decide(moved, known, 2.0) == SameTicket(first)
    known.put(first, State.REJECTED)
    second = decide(moved, known, 3.0)
    assert isinstance(second, NewTicket)
    assert (second.ticket.tenant, second.ticket.generation) == ("web", 2)
    assert second.ticket.branch == "fleet/7.2-remove-unused-imports", "its predecessor's branch is not its own"


@pytest.mark.invariant("I2")
def test_a_change_of_hands_that_is_not_seen_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known()
    first = decide(request(), known, 1.0).ticket
    known.put(first, State.RUNNING)
    Mutant("fleet.intake.decide:_earlier", "(request.tenant, *request.others)", "(request.tenant,)").install(
        monkeypatch
    )
    assert isinstance(decide(request(tenant="web", others=("default",)), known, 2.0), NewTicket)


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("state", State)
def test_an_open_ticket_is_the_same_and_a_closed_one_gets_a_successor(state: State) -> None:
    known = Known()
    first = decide(request(), known, 1.0).ticket
    known.put(first, state)
    again = decide(request(text=clean("Edited", "later")), known, 2.0)
    if state.terminal:
        assert isinstance(again, NewTicket) and again.ticket.generation == 2
        assert again.ticket.branch == "fleet/7.2-edited" and again.ticket.id != first.id
    else:
        assert again == SameTicket(first)


@pytest.mark.invariant("I2")
@given(st.lists(st.sampled_from(["ask", "end", "other issue", "other tenant"]), max_size=30))
def test_at_most_one_open_ticket_per_issue(steps: list[str]) -> None:
    known, ended = Known(), 0
    for step in steps:
        if step == "end":
            for view in list(known.views.values()):
                if not view.state.terminal:
                    known.put(view.ticket, State.MERGED)
                    ended += 1
            continue
        number, tenant = (8 if step == "other issue" else 7), ("b" if step == "other tenant" else "default")
        made = decide(request(number=number, tenant=tenant), known, 1.0)
        if isinstance(made, NewTicket):
            assert made.ticket.id not in known.views
            known.put(made.ticket, State.QUEUED)
        live = [v.ticket for v in known.views.values() if not v.state.terminal]
        assert len({(t.tenant, t.repo, t.number) for t in live}) == len(live)
    assert len(known.views) <= len(steps) and ended <= len(known.views)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"repo": "demo"}, "owner/name"),
        ({"repo": "../etc/x"}, "owner/name"),
        ({"number": 0}, "not the number"),
        ({"agent": " "}, "No agent"),
        ({"base": ""}, "No base branch"),
    ],
)
def test_a_request_that_names_nothing(changes: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        decide(request(**changes), Known(), 1.0)


@pytest.mark.invariant("I1")
def test_accepted_is_on_the_stream_and_on_disk(ledger: RedisLedger, admin: FleetRedis) -> None:
    accepted = IntakeService(ledger, SystemClock()).accept(request(text=IssueText("T", "b", hidden=3, comments=1)))
    assert accepted.new and (accepted.hidden, accepted.comments) == (3, 1)
    ((_, fields),) = admin.xrange(keys.inbound(accepted.ticket.id, Source.INTAKE))  # type: ignore[misc]
    event = decode_event(fields[b"e"], Source.INTAKE)  # type: ignore[index, arg-type]
    assert event.data == TicketAccepted(accepted.ticket) and event.ticket == accepted.ticket.id
    assert admin.execute_command("WAITAOF", 1, 0, 1000)[0] == 1


@pytest.mark.invariant("I2")
def test_accepted_again_while_open(ledger: RedisLedger, admin: FleetRedis) -> None:
    service = IntakeService(ledger, SystemClock())
    first = service.accept(request())
    twin = service.accept(request())  # before any supervisor saw the first: the same id, told twice
    assert twin.ticket.id == first.ticket.id
    view = TicketView(first.ticket, State.RUNNING, Reason.CLAIMED, 0.0)
    admin.hset(keys.of(shard_of(view.id), "view"), view.id, encode(view))
    assert service.accept(request()).new is False
    admin.hset(keys.of(shard_of(view.id), "view"), view.id, encode(replace(view, state=State.REJECTED)))
    second = service.accept(request())
    assert second.new and second.ticket.generation == 2


@pytest.mark.invariant("I1")
def test_nothing_is_promised_when_the_disk_does_not_confirm(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fleet.adapters.ledger as adapter

    def refuses(client: FleetRedis) -> None:
        raise TemporaryError("The ledger's disk did not confirm a write.")

    monkeypatch.setattr(adapter, "wait_aof", refuses)
    with pytest.raises(TemporaryError):
        IntakeService(ledger, SystemClock()).accept(request())


@pytest.mark.invariant("I1")
def test_the_forge_hears_of_it_before_the_ledger_does(ledger: RedisLedger, admin: FleetRedis) -> None:
    """So nobody else works for the ticket while its first comment is written; and without one nothing is promised."""
    heard: list[str] = []

    def forge_is_away(ticket: Ticket) -> None:
        heard.append(ticket.id)
        raise TemporaryError("The forge does not answer.")

    with pytest.raises(TemporaryError):
        IntakeService(ledger, SystemClock(), promised=forge_is_away).accept(request())
    assert len(heard) == 1
    assert admin.xrange(keys.inbound(heard[0], Source.INTAKE)) == []
    assert IntakeService(ledger, SystemClock(), promised=lambda ticket: heard.append(ticket.id)).accept(request()).new
    assert heard[0] == heard[1] and len(admin.xrange(keys.inbound(heard[0], Source.INTAKE))) == 1  # type: ignore[arg-type]
