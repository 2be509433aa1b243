"""Stories of tickets as events: one that goes through everything, played into the real supervisor or as a bare log."""

from __future__ import annotations

from dataclasses import replace

from fleet.core.budget import Cost
from fleet.core.effects import EffectKind
from fleet.core.events import (
    AgentStarted,
    AttemptStarted,
    AttemptStopped,
    EventData,
    GateFinished,
    GatesFinished,
    GatesStarted,
    ModelAsked,
    Published,
    PublishStarted,
    Source,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    WorkspaceReady,
)
from fleet.core.ticket import Ticket
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.players import CHANGE
from tests.support.tickets import ticket

H, BASE = "h" * 40, "b" * 40
COST = Cost(0.25, 1000, 50, 1)


def modelled(number: int = 1) -> Ticket:
    return ticket(number, agent="anthropic:claude-x", title="Secret plans", body="Nobody else may read this text.")


def work(world: World, name: str, attempt: int) -> None:
    """What an attempt says, a second apart."""
    told: list[EventData] = [
        AttemptStarted("host-1", 7, "anthropic:claude-x", world.ledgers["attempt"].incarnation()),
        WorkspaceReady(BASE, 12, 0.5, 0.25),
        AgentStarted("anthropic:claude-x", "bubblewrap"),
        ModelAsked("claude-x"),
        TurnFinished(1, COST, "claude-x"),
        ToolStarted("call-1", "shell", "pytest -q"),
        ToolFinished("call-1", "digest", 1, 900),
        ModelAsked("claude-x"),
        TurnFinished(2, COST, "claude-x"),
        replace(CHANGE, tree=f"{attempt}" * 40),
        AttemptStopped("done"),
    ]
    for data in told:
        world.clock.advance(1.0)
        world.players.attempt_says(name, attempt, data)


def gate(world: World, name: str, attempt: int, round_: int, passed: bool = True) -> None:
    players = world.players
    players.say("gates", Source.GATES, name, attempt, GatesStarted(round_, H, BASE, ("lint", "tests")))
    for gate_, outcome in (("lint", "passed"), ("tests", "passed" if passed else "failed")):
        world.clock.advance(3.0)
        told = GateFinished(round_, gate_, gate_, outcome, 2.0, "")
        players.say("gates", Source.GATES, name, attempt, told)
    players.say("gates", Source.GATES, name, attempt, GatesFinished(round_, H, BASE, passed, "2 gates"))


def publish(world: World, name: str, attempt: int, round_: int) -> None:
    world.players.say("publisher", Source.PUBLISHER, name, attempt, PublishStarted(round_, H))
    world.clock.advance(2.0)
    world.players.say("publisher", Source.PUBLISHER, name, attempt, Published(7, "url", H, BASE))


def play(world: World, supervisor: Supervisor, one: Ticket, green: tuple[bool, ...] = (True,)) -> None:
    """Brings ``one`` into review; ``green``: how each attempt's gates end."""
    world.players.accept(one)
    for passed in green:
        world.turns(supervisor, 4)
        start = world.ordered(one, EffectKind.START_ATTEMPT)[-1]
        assert world.ledgers["attempt"].begin("agents", start, "guard")
        work(world, one.id, start.attempt)
        world.turns(supervisor, 3)
        order = world.ordered(one, EffectKind.RUN_GATES)[-1]
        assert world.ledgers["gates"].begin("gates", order, "gates")
        gate(world, one.id, order.attempt, order.round, passed)
        world.turns(supervisor, 3)
        world.clock.advance(0.0 if passed else 60.0)
    world.turns(supervisor, 3)
    order = world.ordered(one, EffectKind.PUBLISH)[-1]
    assert world.ledgers["publisher"].begin("publisher", order, "publisher")
    publish(world, one.id, order.attempt, order.round)
    world.turns(supervisor, 3)
