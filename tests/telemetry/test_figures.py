"""The page of figures: what Prometheus reads agrees with what happened."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.adapters.acl import Role
from fleet.adapters.follow import Follower
from fleet.adapters.metrics_page import MetricsPage, page
from fleet.core.budget import Cost
from fleet.core.errors import TemporaryError, UsageError
from fleet.core.events import Envelope, Nudged, Rung, Source, TicketAccepted, TurnFinished
from fleet.core.figures import Figures
from fleet.core.states import State
from fleet.telemetry.figures import MOST_MODELS, Book
from fleet.telemetry.service import Telemetry
from tests.supervisor.world import World
from tests.telemetry.story import modelled, play

DOCS = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"


class Read:
    """A page as Prometheus reads it."""

    def __init__(self, text: bytes) -> None:
        self.families = list(text_string_to_metric_families(text.decode()))
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self._samples.get((name, frozenset(labels.items())), 0.0)


def telemetry(world: World) -> Telemetry:
    return Telemetry(Follower(world.clients[Role.TELEMETRY.value]), world.clock)


def test_the_figures_of_two_tickets(world: World) -> None:
    supervisor, told = world.make(), telemetry(world)
    play(world, supervisor, modelled(1), (False, True))
    world.running(supervisor, modelled(2))
    world.clock.advance(40.0)
    world.turns(supervisor)
    read = Read(page(told.figures()))
    assert read("fleet_tickets_accepted_total") == 2
    assert read("fleet_tickets", state="in_review") == 1 and read("fleet_tickets", state="merged") == 0
    assert sum(read("fleet_tickets", state=state.value) for state in State) == 2
    assert read("fleet_attempts_total", outcome="change_ready") == 2
    assert read("fleet_attempts_total", outcome="lost") == 1
    assert read("fleet_gates_total", kind="tests", outcome="failed") == 1
    assert read("fleet_gates_total", kind="tests", outcome="passed") == 1
    assert read("fleet_gate_rounds_total", result="red") == 1
    assert read("fleet_gate_seconds_count", kind="lint") == 2 and read("fleet_gate_seconds_sum", kind="lint") == 4
    assert read("fleet_gate_seconds_bucket", kind="lint", le="1.0") == 0
    assert read("fleet_gate_seconds_bucket", kind="lint", le="2.5") == 2
    assert read("fleet_gate_seconds_bucket", kind="lint", le="+Inf") == 2
    spent = {"provider": "anthropic", "model": "claude-x"}
    assert read("fleet_model_calls_total", **spent) == 4 and read("fleet_model_usd_total", **spent) == 1.0
    assert read("fleet_model_tokens_total", direction="input", **spent) == 4000
    assert read("fleet_pull_requests_total", result="published") == 1
    assert read("fleet_ticket_seconds_count", state="in_review") == 1
    assert read("fleet_events_total", source="attempts") == 23


def test_ages_are_told_and_a_second_look_counts_nothing_twice(world: World) -> None:
    supervisor, told = world.make(), telemetry(world)
    for number in range(1, 4):
        world.players.accept(modelled(number))
    world.turns(supervisor)
    world.clock.advance(40.0)
    first, again = Read(page(told.figures())), Read(page(told.figures()))
    assert first("fleet_tickets_accepted_total") == again("fleet_tickets_accepted_total") == 3
    assert first("fleet_tickets", state="queued") == 1, "two places a repository"
    assert 40.0 <= first("fleet_queue_oldest_seconds") < 60.0
    assert first("fleet_outbox_orders", kind="start") == 2
    assert first("fleet_outbox_oldest_seconds") >= 40.0


def test_a_new_process_says_the_same(world: World) -> None:
    """Counters are folded from the log, so that a restart is no reset."""
    told = telemetry(world)
    play(world, world.make(), modelled())
    assert page(told.figures()) == page(telemetry(world).figures())


def test_quarantined_entries_are_counted(world: World) -> None:
    supervisor = world.make()
    world.players.attempt_says("unknown-1-00000000", 1, Nudged(Rung.NUDGE, "loop", ""))
    world.turns(supervisor)
    assert Read(page(telemetry(world).figures()))("fleet_quarantined") == 1


def event(data: TicketAccepted | TurnFinished | Nudged) -> Envelope:
    return Envelope("default", modelled().id, 1, 0, 1.0, data, Source.ATTEMPTS)


def test_whoever_names_models_cannot_fill_a_database() -> None:
    book = Book()
    book.take(event(TicketAccepted(modelled())))
    for number in range(MOST_MODELS * 3):
        book.take(event(TurnFinished(1, Cost(0.0, 1, 1, 1), f"model-{number}")))
    book.take(event(Nudged(Rung.NUDGE, "whatever they say", "")))
    assert len(book.models.calls.values) == MOST_MODELS + 1
    assert book.models.calls.values[("other", "other")] == MOST_MODELS * 2
    assert list(book.nudges.values) == [("nudge", "other")]


def test_a_clock_that_jumps_back_makes_no_negative_time() -> None:
    book = Book()
    book.waits.add(-5.0)
    assert book.waits.sums[()] == 0.0


# --- the page ---------------------------------------------------------------------------------------------------
@pytest.fixture
def served() -> Iterator[Callable[[Callable[[], Figures]], MetricsPage]]:
    made: list[MetricsPage] = []

    def serve(figures: Callable[[], Figures]) -> MetricsPage:
        made.append(MetricsPage(0, figures))
        made[-1].start()
        return made[-1]

    yield serve
    for one in made:
        one.close()


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


Serve = Callable[[Callable[[], Figures]], MetricsPage]


def test_the_page_is_served_on_loopback_to_nobody_elses_site(world: World, served: Serve) -> None:
    play(world, world.make(), modelled())
    url = served(telemetry(world).figures).url
    code, text = get(url)
    assert code == 200 and Read(text)("fleet_tickets", state="in_review") == 1
    assert get(url, Host="localhost:9000")[0] == 200
    assert get(url, Host="evil.example")[0] == 403
    assert get(url, Origin="https://evil.example")[0] == 403
    assert get(url.replace("/metrics", "/"))[0] == 404


def test_mutant_that_answers_everybody_is_noticed(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.adapters.metrics_page._ours", lambda host, origin: True)
    assert get(served(lambda: ()).url, Host="evil.example")[0] == 200


def test_without_a_ledger_the_page_says_so(served: Serve) -> None:
    def away() -> Figures:
        raise TemporaryError("The ledger does not answer.")

    assert get(served(away).url) == (503, b"The ledger does not answer.\n")


def test_a_port_that_is_taken_is_named(served: Serve) -> None:
    port = int(served(lambda: ()).url.split(":")[2].partition("/")[0])
    with pytest.raises(UsageError, match=f"Port {port} for the metrics page"):
        MetricsPage(port, lambda: ())


def test_every_figure_is_in_the_documentation(world: World) -> None:
    telling = Telemetry(Follower(world.clients[Role.TELEMETRY.value]), world.clock, sender=Nowhere())
    play(world, world.make(), modelled())
    families = Read(page(telling.figures())).families
    named = set(re.findall(r"`(fleet_\w+)", DOCS.read_text()))
    shown = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert shown <= named
    assert {name for name in named if not name.endswith(("_bucket", "_sum", "_count"))} <= shown


class Nowhere:
    def send(self, spans: object) -> bool:
        return False
