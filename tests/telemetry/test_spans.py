"""``spans`` and ``Book`` are total: any log gives a well-formed trace and a page that can be read."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fleet.adapters.metrics_page import page
from fleet.adapters.tracing import SpanSender
from fleet.core.effects import EffectKind
from fleet.core.events import (
    CancelRequested,
    Envelope,
    EventData,
    ModelAsked,
    Nudged,
    Rung,
    Source,
    StateChanged,
    TicketAccepted,
    ToolStarted,
)
from fleet.core.states import Reason, State
from fleet.core.tracing import SpanData, span_id, trace_id, traceparent
from fleet.telemetry.figures import Book
from fleet.telemetry.spans import SETTLED, spans
from tests.supervisor.world import World
from tests.support.kinds import envelopes
from tests.telemetry.collector import Collector
from tests.telemetry.story import modelled

ONE = modelled()
MOVES = st.builds(
    StateChanged, st.sampled_from(State), st.sampled_from(Reason), st.just(""), st.none(), st.integers(0, 5)
)


def event(data: EventData, at: float, source: Source = Source.SUPERVISOR) -> Envelope:
    return Envelope(ONE.tenant, ONE.id, 1, 0, at, data, source)


BEGIN = event(TicketAccepted(ONE), 1000.0, Source.INTAKE)
TIMES = st.floats(0, 2e9)
LOGS = st.lists(
    st.one_of(st.builds(event, MOVES, TIMES), envelopes().map(lambda one: replace(one, ticket=ONE.id))), max_size=25
)


def well_formed(made: tuple[SpanData, ...]) -> None:
    root, *rest = made
    known = {span.span: span for span in made}
    assert len(known) == len(made) and root.parent == "" and root.start <= root.end
    assert {span.trace for span in made} == {trace_id("i", ONE.id)}
    for span in rest:
        parent = known[span.parent]
        assert parent.start <= span.start <= span.end <= parent.end
        assert all(span.start <= mark.at <= span.end for mark in span.marks)


@settings(max_examples=150, deadline=None)
@given(LOGS)
def test_any_log_gives_a_well_formed_trace(log: list[Envelope]) -> None:
    made = spans([BEGIN, *log], "i")
    states = [one.data.state for one in log if isinstance(one.data, StateChanged)]
    assert bool(made) == (bool(states) and states[-1] in SETTLED and any(s in SETTLED for s in states))
    if made:
        well_formed(made)
    assert spans([BEGIN, *log], "i") == made


@settings(max_examples=60, deadline=None)
@given(LOGS)
def test_any_log_gives_a_page(log: list[Envelope]) -> None:
    book = Book()
    for one in (BEGIN, *log):
        book.take(one)
    families = list(text_string_to_metric_families(page(book.figures(2000.0)).decode()))
    counters = [sample.value for family in families if family.type == "counter" for sample in family.samples]
    assert len(families) > 15 and min(counters) >= 0


@settings(max_examples=15, deadline=None)
@given(st.integers(-(2**70), 2**70), st.text(max_size=400))
def test_whatever_is_in_a_span_can_be_sent(number: int, text: str) -> None:
    made = SpanData(text, "a" * 32, "b" * 16, "", 1.0, 2.0, (("n", number), ("t", text), ("f", 0.5), ("b", True)))
    collector = Collector()
    collector.start()
    try:
        assert SpanSender(collector.url, "1").send([made])
        assert len(collector.spans()[0].name) <= 200
    finally:
        collector.close()


def test_a_log_without_its_beginning_gives_nothing() -> None:
    assert spans([], "i") == ()
    assert spans([event(StateChanged(State.CANCELLED, Reason.CANCELLED_BY_PERSON), 1.0)], "i") == ()


def test_a_ticket_at_work_is_not_told() -> None:
    assert spans([BEGIN, event(StateChanged(State.STARTING, Reason.GRANTED, attempt=1), 1001.0)], "i") == ()


def test_ids_follow_from_the_ticket_and_the_ledger() -> None:
    assert traceparent("i", "t") == f"00-{trace_id('i', 't')}-{span_id(trace_id('i', 't'), 'ticket')}-01"
    assert len({trace_id("i", "t"), trace_id("j", "t"), trace_id("i", "u")}) == 3
    assert [len(part) for part in traceparent("i", "t").split("-")] == [2, 32, 16, 2]


def test_what_a_lost_attempt_left_open_ends_with_it_as_an_error(world: World) -> None:
    supervisor = world.make()
    effect = world.running(supervisor, ONE)
    world.players.attempt_says(ONE.id, effect.attempt, ToolStarted("c", "shell", "sleep"), ModelAsked("claude-x"))
    world.turns(supervisor)
    world.clock.advance(40.0)
    world.turns(supervisor)
    world.players.person(ONE.id, CancelRequested("me"))
    world.turns(supervisor)
    log = [one for _, one in world.ledgers["people"].log(ONE.id)]
    made = spans(log, "i")
    well_formed(made)
    named = {span.name: span for span in reversed(made)}  # the first of each name
    assert named["chat claude-x"].error == named["execute_tool shell"].error == "no answer"
    assert named["attempt"].error == "lost" and named["ticket"].error == ""
    assert named["attempt"].end - named["attempt"].start > 30.0
    assert dict(named["attempt"].attributes)["fleet.outcome"] == "lost"
    assert dict(named["ticket"].attributes)["fleet.state"] == "cancelled"
    assert not [order for order in world.players.woken if order.kind is EffectKind.PUBLISH]


def test_a_nudge_is_a_mark_of_its_attempt() -> None:
    log = [
        BEGIN,
        event(StateChanged(State.STARTING, Reason.GRANTED, attempt=1), 1001.0),
        event(Nudged(Rung.NUDGE, "loop", "You go round in circles.", 3.0), 1005.0),
        event(StateChanged(State.CANCELLED, Reason.CANCELLED_BY_PERSON), 1010.0),
    ]
    attempt = next(span for span in spans(log, "i") if span.name == "attempt")
    (mark,) = attempt.marks
    assert (mark.name, mark.at) == ("nudge", 1005.0)
    assert dict(mark.attributes) == {"fleet.rung": "nudge", "fleet.cause": "loop", "fleet.seconds": 3.0}
