"""What a service writes to its log: JSON lines that say which ticket they are about, bounded, without secrets."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters import telemetry
from fleet.adapters.redaction import STAND_IN, Redactor
from fleet.adapters.telemetry import configure_logging, log, register_secret
from fleet.core.errors import TemporaryError
from fleet.core.events import CancelRequested, Source
from fleet.core.tracing import trace_id, traceparent
from fleet.local.host import bound_logs
from fleet.local.telemetry import accepted, spans_url, told
from supervisor.shard import ShardKeeper
from tests.supervisor.world import World
from tests.support.clock import VirtualClock
from tests.support.tickets import ticket
from tests.telemetry.story import modelled, play

INCARNATION = "incarnation-1"
Lines = list[dict[str, Any]]


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream, root = io.StringIO(), logging.getLogger()
    level = root.level
    configure_logging("supervisor", stream, VirtualClock())
    yield stream
    for handler in list(root.handlers):
        if getattr(handler, "stream", None) is stream:
            root.removeHandler(handler)
    root.setLevel(level)


def lines(stream: io.StringIO) -> Lines:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def unnamed(found: Lines) -> Lines:
    """Lines that do not say whole what they are about."""
    keys = ("at", "level", "service", "event", "tenant", "ticket", "attempt", "trace")
    return [line for line in found if any(line.get(key, "") == "" for key in keys)]


def test_each_decision_of_the_supervisor_is_a_line(world: World, out: io.StringIO) -> None:
    one = modelled()
    play(world, world.make(), one, (False, True))
    said = lines(out)
    assert [(line["state"], line["attempt"]) for line in said] == [
        ("starting", 1), ("gating", 1), ("backing_off", 1), ("queued", 1),
        ("starting", 2), ("gating", 2), ("publishing", 2), ("in_review", 2),
    ]  # fmt: skip
    assert unnamed(said) == []
    assert {(line["ticket"], line["trace"]) for line in said} == {(one.id, trace_id(INCARNATION, one.id))}


def test_mutant_without_a_trace_is_noticed(world: World, out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShardKeeper, "_trace", lambda self, name: "")
    play(world, world.make(), modelled())
    assert len(unnamed(lines(out))) == len(lines(out)) > 0


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("redacting", [True, False])
def test_a_secret_in_what_a_person_says_is_in_no_line(
    world: World, out: io.StringIO, monkeypatch: pytest.MonkeyPatch, redacting: bool
) -> None:
    """And the mutant: with redaction switched off it is seen."""
    register_secret("log-canary-0815")
    if not redacting:
        monkeypatch.setattr(telemetry, "_redactor", Redactor())
    supervisor, one = world.make(), ticket()
    world.players.accept(one)
    world.turns(supervisor)
    world.players.person(one.id, CancelRequested("me", "my key log-canary-0815 was in it"))
    world.turns(supervisor)
    assert ("log-canary-0815" in out.getvalue(), STAND_IN in out.getvalue()) == (not redacting, redacting)


def test_events_and_orders_carry_the_trace_whatever_a_worker_says(world: World) -> None:
    supervisor, one = world.make(), modelled()
    effect = world.running(supervisor, one)
    event = world.ledgers["people"].log(one.id)[-1][1]
    liar = replace(event, seq=2, source=Source.ATTEMPTS, trace="00-" + "f" * 32 + "-" + "f" * 16 + "-01")
    from fleet.core.events import Note

    world.ledgers["attempt"].send(Source.ATTEMPTS, [replace(liar, data=Note("hello"))])
    world.turns(supervisor)
    wanted = traceparent(INCARNATION, one.id)
    traces = {event.trace for _, event in world.ledgers["people"].log(one.id)}
    assert (effect.trace, traces) == (wanted, {wanted})
    assert world.ledgers["people"].log(one.id)[-1][1].kind == "Note"


# --- tasks of Celery, and acceptance ---------------------------------------------------------------------------------
def test_what_a_task_logs_names_the_ticket(world: World, out: io.StringIO) -> None:
    one = modelled()
    play(world, world.make(), one)
    out.truncate(0)
    out.seek(0)

    def work(ticket: str, attempt: int, round: int, turn: int) -> None:
        logging.getLogger("some.library").warning("a word")
        if round == 2:
            raise TemporaryError("away")

    task = told(world.ledgers["gates"], "gates", work)
    task(one.id, 1, 1)
    with pytest.raises(TemporaryError):
        task(one.id, 1, 2, 0)
    task("unknown-1-00000000", 1, 1)
    said = lines(out)
    assert [line["event"] for line in said] == ["begins", "a word", "ended", "begins", "a word", "failed"]
    assert unnamed(said) == [] and {line["ticket"] for line in said} == {one.id}


def test_an_accepted_ticket_is_a_line(world: World, out: io.StringIO) -> None:
    world.make()
    accepted(world.ledgers["intake"])(modelled())
    (line,) = lines(out)
    assert (line["event"], line["issue"], line["agent"]) == ("accepted", "local/demo#1", "anthropic")
    assert line["trace"] == trace_id(INCARNATION, modelled().id)


def test_a_ledger_that_is_not_open_costs_the_trace_only(world: World, out: io.StringIO) -> None:
    accepted(world.ledgers["intake"])(modelled())
    assert lines(out)[0]["trace"] == ""


# --- files -----------------------------------------------------------------------------------------------------------
def test_a_log_is_cut_while_it_is_written(tmp_path: Path, out: io.StringIO) -> None:
    path = tmp_path / "gates.log"
    configure_logging("gates", path, VirtualClock())
    most = 4096
    for number in range(200):
        log().info("line", number=number)
        bound_logs(tmp_path, most)
        assert path.stat().st_size <= most + 200
    configure_logging("gates", out, VirtualClock())
    older, newer = (tmp_path / name for name in ("gates.log.1", "gates.log"))
    assert sorted(tmp_path.iterdir()) == [newer, older] and older.stat().st_mode & 0o777 == 0o600
    rows = [json.loads(line) for file in (older, newer) for line in file.read_text().splitlines()]
    assert [row["number"] for row in rows] == list(range(rows[0]["number"], 200)), "whole lines, in order"
    assert older.stat().st_size + newer.stat().st_size <= 2 * (most + 200)


# --- what it costs ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("module", ["fleet", "fleet.cli.__main__", "fleet.cli.run", "fleet.cli.tickets"])
def test_commands_load_none_of_it(module: str) -> None:
    code = f"import sys, {module}; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_services_load_the_vendors_only_where_they_are_asked_for() -> None:
    code = f"import sys, fleet.local.main; print([n for n in {HEAVY[1:]!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


HEAVY = ("structlog", "opentelemetry.sdk", "opentelemetry.proto", "prometheus_client")


@pytest.mark.parametrize(
    ("setting", "env", "url"),
    [
        ("", {}, ""),
        ("http://c:4318", {}, "http://c:4318/v1/traces"),
        ("http://c:4318/v1/traces", {}, "http://c:4318/v1/traces"),
        ("http://c/", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"}, "http://c/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/own"}, "http://c/own"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, ""),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ("http://c", {"OTEL_SDK_DISABLED": "true"}, "http://c/v1/traces"),
    ],
)
def test_where_spans_go(setting: str, env: dict[str, str], url: str) -> None:
    assert spans_url(setting, env) == url
