"""One trace per ticket reaches a collector, with everything in its place, once, whatever happens in between."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from fleet.adapters import telemetry
from fleet.adapters.acl import Role
from fleet.adapters.follow import Follower
from fleet.adapters.redaction import STAND_IN, Redactor
from fleet.adapters.redis_client import connect, parse_address
from fleet.adapters.tracing import SpanSender
from fleet.core.errors import TemporaryError
from fleet.core.states import State
from fleet.core.ticket import Ticket
from fleet.core.tracing import trace_id, traceparent
from fleet.telemetry.service import LOOK_EVERY, OLDEST, Telemetry
from tests.supervisor.world import World
from tests.telemetry.collector import Collector, attributes
from tests.telemetry.story import modelled, play

KEY = "x-api-key=collector-canary-1234,authorization=Bearer%20collector-canary-5678"
INCARNATION = "incarnation-1"


def service(world: World, collector: Collector, memory: Path | None = None) -> Telemetry:
    follower = Follower(world.clients[Role.TELEMETRY.value])
    return Telemetry(follower, world.clock, SpanSender(collector.url, "1.0", KEY, seconds=2.0), memory)


def by_name(spans: list[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(span)
    return found


def round_of(told: Telemetry) -> int:
    told.look()
    return told.tell()


def test_a_ticket_is_one_trace_with_right_parents(world: World, collector: Collector) -> None:
    one = modelled()
    play(world, world.make(), one, (False, True))
    told = service(world, collector)
    assert round_of(told) == 1
    assert (round_of(told), len(collector.raw)) == (0, 1), "sent once"
    spans = collector.spans()
    assert {span.trace_id.hex() for span in spans} == {trace_id(INCARNATION, one.id)}
    assert len({span.span_id for span in spans}) == len(spans)
    named = by_name(spans)
    assert {name: len(found) for name, found in named.items()} == {
        "ticket": 1, "admission": 2, "attempt": 2, "workspace": 2, "chat claude-x": 4, "execute_tool shell": 2,
        "gates": 2, "gate lint": 2, "gate tests": 2, "backoff": 1, "publish": 1,
    }  # fmt: skip
    (root,) = named["ticket"]
    assert root.parent_span_id == b"" and root.span_id.hex() == traceparent(INCARNATION, one.id).split("-")[2]
    known = {span.span_id: span for span in spans}
    parents = {name: {known[s.parent_span_id].name for s in found} for name, found in named.items() if name != "ticket"}
    assert {parents[name].pop() for name in ("admission", "attempt", "gates", "backoff", "publish")} == {"ticket"}
    for name in ("workspace", "chat claude-x", "execute_tool shell"):
        assert parents[name] == {"attempt"}
    assert parents["gate lint"] == parents["gate tests"] == {"gates"}
    assert Counter(s.parent_span_id for s in named["chat claude-x"]) == {s.span_id: 2 for s in named["attempt"]}


def test_times_attributes_and_status_are_right(world: World, collector: Collector) -> None:
    one = modelled()
    play(world, world.make(), one, (False, True))
    round_of(service(world, collector))
    spans = collector.spans()
    named, known = by_name(spans), {span.span_id: span for span in spans}
    for span in spans:
        parent = known.get(span.parent_span_id, span)
        assert parent.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= parent.end_time_unix_nano
    chat = named["chat claude-x"][0]
    assert attributes(chat) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude-x",
        "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 50, "fleet.turn": 1, "fleet.usd": 0.25,
    }  # fmt: skip
    assert chat.kind == Span.SPAN_KIND_CLIENT and seconds(chat) == pytest.approx(1.0)
    assert attributes(named["execute_tool shell"][0]) == {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "shell", "gen_ai.tool.call.id": "call-1",
        "fleet.exit": 1,
    }  # fmt: skip
    assert seconds(named["gate lint"][0]) == pytest.approx(2.0)
    assert seconds(named["workspace"][0]) == pytest.approx(0.75)
    red, green = named["gate tests"]
    assert (red.status.code, red.status.message) == (Status.STATUS_CODE_ERROR, "failed")
    assert green.status.code == Status.STATUS_CODE_UNSET
    assert [gates.status.message for gates in named["gates"]] == ["gates_red", ""]
    about = attributes(named["ticket"][0])
    assert about["fleet.state"] == "in_review" and about["fleet.attempts"] == 2 and about["fleet.usd"] == 1.0
    assert about["fleet.pull_request"] == 7 and about["fleet.repo"] == one.repo


def seconds(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def test_no_text_of_anybody_is_told(world: World, collector: Collector) -> None:
    one = modelled()
    play(world, world.make(), one)
    round_of(service(world, collector))
    (raw,) = collector.raw
    assert one.id.encode() in raw
    for text in (one.title, one.body, "pytest -q"):
        assert text.encode() not in raw


def leak(world: World, collector: Collector, secret: str) -> bytes:
    one = modelled()
    made = Ticket(**{name: getattr(one, name) for name in one.__slots__} | {"repo": f"local/{secret}"})
    play(world, world.make(), made)
    round_of(service(world, collector))
    return b"".join(collector.raw)


@pytest.mark.invariant("I7")
def test_a_secret_is_in_no_span(world: World, collector: Collector) -> None:
    telemetry.register_secret("span-canary-4711")
    sent = leak(world, collector, "span-canary-4711")
    assert b"span-canary-4711" not in sent and STAND_IN.encode() in sent


@pytest.mark.invariant("I7")
def test_mutant_without_redaction_is_noticed(
    world: World, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry.register_secret("span-canary-4712")
    monkeypatch.setattr(telemetry, "_redactor", Redactor())
    assert b"span-canary-4712" in leak(world, collector, "span-canary-4712")


def test_a_collector_that_is_away_costs_a_delay_and_no_trace(world: World, collector: Collector) -> None:
    one, two = modelled(1), modelled(2)
    supervisor = world.make()
    play(world, supervisor, one)
    collector.status = 400
    told = service(world, collector)
    assert round_of(told) == 0
    assert round_of(told) == 0, "not before its pause is over"
    play(world, supervisor, two)
    collector.status = 200
    world.clock.advance(120.0)
    assert round_of(told) == 2
    roots = by_name(collector.spans())["ticket"]
    assert {attributes(root)["fleet.ticket"] for root in roots} == {one.id, two.id}
    values = {family.name: sum(family.values.values()) for family in told.figures() if hasattr(family, "values")}
    assert (values["fleet_traces_sent"], values["fleet_trace_failures"], values["fleet_traces_waiting"]) == (2, 1, 0)


def test_a_restart_tells_nothing_twice_and_forgets_nothing(world: World, collector: Collector, tmp_path: Path) -> None:
    memory, supervisor = tmp_path / "telemetry.json", world.make()
    one, two = modelled(1), modelled(2)
    play(world, supervisor, one)
    assert round_of(service(world, collector, memory)) == 1
    play(world, supervisor, two)
    assert round_of(service(world, collector, memory)) == 1
    roots = by_name(collector.spans())["ticket"]
    assert [attributes(root)["fleet.ticket"] for root in roots] == [one.id, two.id]
    first = [span.span_id for span in collector.spans()]
    memory.write_text("damaged")
    assert round_of(service(world, collector, memory)) == 2
    assert Counter(span.span_id for span in collector.spans()) == Counter(first * 2), "twice, but the same spans"


def test_what_settled_long_ago_is_not_told(world: World, collector: Collector) -> None:
    play(world, world.make(), modelled())
    world.clock.advance(OLDEST + 60.0)
    assert round_of(service(world, collector)) == 0 and collector.raw == []


def test_a_merge_later_changes_nothing_and_a_retry_adds_what_is_new(world: World, collector: Collector) -> None:
    from fleet.core.events import PauseRequested, PullRequestClosed, ResumeRequested, Source

    supervisor, told, one, two = world.make(), service(world, collector), modelled(1), modelled(2)
    play(world, supervisor, one)
    assert round_of(told) == 1
    world.players.say("intake", Source.INTAKE, one.id, 0, PullRequestClosed(merged=True))
    world.turns(supervisor)
    assert world.seen(one).state is State.MERGED
    round_of(told)
    assert len(collector.raw) == 1
    world.players.accept(two)
    world.players.person(two.id, PauseRequested("me"))
    world.turns(supervisor)
    round_of(told)
    world.players.person(two.id, ResumeRequested("me"))
    world.turns(supervisor)
    world.until_quiet(supervisor)
    round_of(told)
    mine = [span for span in collector.spans() if span.trace_id.hex() == trace_id(INCARNATION, two.id)]
    assert Counter(span.name for span in mine)["ticket"] == 2
    ids = Counter(span.span_id for span in mine if span.name != "ticket")
    assert set(ids.values()) == {1}
    assert "parked" in by_name(mine)


def test_another_ledger_is_another_world(world: World, collector: Collector) -> None:
    told = service(world, collector)
    play(world, world.make(), modelled())
    round_of(told)
    world.clients["admin"].flushall()
    world.clients["admin"].hset("fleet:meta", "incarnation", "incarnation-2")
    told.look()
    values = {family.name: sum(family.values.values()) for family in told.figures() if hasattr(family, "values")}
    assert values["fleet_tickets_accepted"] == 0


def test_it_looks_now_and_then_only_when_there_is_a_collector(world: World, collector: Collector) -> None:
    """Figures alone are made when they are asked for: nothing wakes up in between."""
    asked: list[float | None] = []

    def stop(seconds: float | None) -> bool:
        asked.append(seconds)
        return len(asked) > 2

    Telemetry(Follower(world.clients["telemetry"]), world.clock).run(lambda seconds: stop(seconds) or True)
    assert asked == [None]
    service(world, collector).run(stop)
    assert asked[1:] == [LOOK_EVERY] * 2


def test_what_settled_last_is_told_before_the_end(world: World, collector: Collector) -> None:
    supervisor = world.make()

    def stop(seconds: float | None) -> bool:
        play(world, supervisor, modelled())
        return True

    service(world, collector).run(stop)
    assert len(by_name(collector.spans())["ticket"]) == 1


def test_a_ledger_that_is_away_ends_nothing(world: World, collector: Collector, tmp_path: Path) -> None:
    client = connect(parse_address(f"unix://{tmp_path}/nobody.sock"), "telemetry", retries=0)
    away = Telemetry(Follower(client), world.clock, SpanSender(collector.url, "1.0"))
    rounds = iter([False, False, True])
    away.run(lambda seconds: next(rounds))
    with pytest.raises(TemporaryError):
        away.figures()
    client.close()


def test_too_many_that_wait_are_given_up_and_counted(
    world: World, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.telemetry.service.MOST_WAITING", 1)
    collector.status, supervisor, told = 400, world.make(), service(world, collector)
    for number in (1, 2):
        play(world, supervisor, modelled(number))
    told.look()
    told.tell()
    values = {family.name: sum(family.values.values()) for family in told.figures() if hasattr(family, "values")}
    assert (values["fleet_traces_dropped"], values["fleet_traces_waiting"]) == (1, 1)
    world.clock.advance(OLDEST + 120.0)
    told.tell()
    values = {family.name: sum(family.values.values()) for family in told.figures() if hasattr(family, "values")}
    assert (values["fleet_traces_dropped"], values["fleet_traces_waiting"]) == (2, 0)
