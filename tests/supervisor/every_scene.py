"""Lives with people, routes and lost ledgers in them, and all the scenes there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fleet.core.events import (
    AttemptFailed,
    AttemptStopped,
    CommentHeard,
    Source,
    SteerRequested,
    TicketAccepted,
    Verb,
)
from fleet.core.recovery import Recovered
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, TicketLimits
from tests.supervisor import scenes
from tests.supervisor.scenes import BASE, HEAD, Stage, model
from tests.supervisor.world import World
from tests.support.players import CHANGE


def recovered(world: World) -> Ticket:
    """A lost ledger's ticket comes back with what it had used; its next attempt is the last one, and goes well."""
    known = Recovered(
        State.QUEUED, Reason.RECOVERED, attempts=2, hand_backs=0, usd=0.75, model_calls=9, tokens=4000,
        failures=(("agent_error", 1), ("lost", 1)), heard=4, incarnation="before", at=world.clock.now() - 60.0,
    )  # fmt: skip
    stage = Stage(world, replace(model(13), limits=TicketLimits(attempts=3)))
    accepted = TicketAccepted(stage.ticket, known)
    world.players.say("intake", Source.INTAKE, stage.ticket.id, 0, accepted)
    stage.turns()
    stage.claimed()
    stage.turn(1, "pytest -q", "green")
    stage.says(CHANGE, AttemptStopped("done"))
    stage.goes_well()
    stage.closed(merged=True)
    return stage.over()


def in_review_again(world: World) -> Ticket:
    """A lost ledger's ticket whose pull request was open comes back in review, and is closed unmerged."""
    known = Recovered(
        State.IN_REVIEW, Reason.RECOVERED, "as it was", attempts=1, usd=0.1, model_calls=2, tokens=90,
        pull_request=7, url="url", head=HEAD, base_sha=BASE, incarnation="before",
    )  # fmt: skip
    stage = Stage(world, model(14))
    world.players.say("intake", Source.INTAKE, stage.ticket.id, 0, TicketAccepted(stage.ticket, known))
    stage.turns()
    stage.closed(merged=False)
    return stage.over()


def comments(world: World) -> Ticket:
    """Orders by comment: steered, paused, one that may not, resumed, one that came twice; the last one cancels."""
    stage = Stage(world, model(15))
    stage.claimed()
    stage.turn(1, "ls", "src")
    stage.person(CommentHeard(3, "ada", Verb.STEER, True, "the agent is told", "Look into src."))
    stage.person(CommentHeard(4, "ada", Verb.PAUSE, True, "it pauses"))
    stage.person(CommentHeard(5, "eve", Verb.APPROVE, False, "only who may write here can say that"))
    for _ in range(2):
        stage.person(CommentHeard(6, "bob", Verb.RESUME, True, "it goes on"))
    stage.claimed()
    stage.person(CommentHeard(7, "bob", Verb.CANCEL, True, "it is cancelled", "not needed"))
    return stage.over()


def passed_on(world: World) -> Ticket:
    """The first agent of a route fails twice; the second one takes over and does it."""
    stage = Stage(world, replace(model(16), route=("openai:big",)))
    for number in (1, 2):
        stage.claimed()
        stage.turn(1, "pytest -q", f"red {number}", 1)
        stage.says(AttemptFailed(FailureClass.AGENT_ERROR, f"It cannot do it in its {number}. way.", "E   assert"))
        world.clock.advance(1000.0)
    stage.claimed()
    assert stage.view.passed_to == "openai:big"
    stage.says(CHANGE, AttemptStopped("done"))
    stage.goes_well()
    return stage.over()


def question(world: World) -> Ticket:
    """An agent asks a person, who answers; the next attempt reads both."""
    stage = Stage(world, model(17))
    stage.claimed()
    stage.turn(1, "cat README", "two formats")
    stage.says(AttemptFailed(FailureClass.NEEDS_INPUT, "The agent asks: Which format?", "Which format?"))
    stage.turns()
    stage.told()
    stage.person(SteerRequested("ada", "The second one."))
    stage.goes_well()
    return stage.over()


MORE: tuple[Callable[[World], Ticket], ...] = (recovered, in_review_again, comments, passed_on, question)
SCENES = scenes.SCENES | {scene.__name__: scene for scene in MORE}
