"""Lives of a ticket, each played to its end in a ``World``: what is stored as history, replayed and sealed in tests.

A scene is a function from a world to the ticket it played. Everything goes through the real supervisor and ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fleet.core.budget import Cost
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import (
    AgentStarted,
    ApprovalGiven,
    AttemptFailed,
    AttemptStarted,
    AttemptStopped,
    BudgetRaised,
    CancelRequested,
    CommandSeen,
    EventData,
    FilesTouched,
    GateFinished,
    GatesFailed,
    GatesFinished,
    GatesStarted,
    Heartbeat,
    ModelAsked,
    Note,
    PauseRequested,
    PublishFailed,
    PublishProblem,
    PullRequestClosed,
    ResumeRequested,
    RetryRequested,
    SignGiven,
    Source,
    StatusPosted,
    SteerRequested,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    Withdrawn,
    WorkspaceReady,
)
from fleet.core.retry import FailureClass
from fleet.core.states import State
from fleet.core.ticket import Ticket
from fleet.core.view import TicketView
from supervisor.policy import Policy
from supervisor.service import Supervisor
from tests.supervisor.world import World
from tests.support.players import CHANGE
from tests.support.tickets import ticket

POLICY = Policy(silence=20.0, model_silence=60.0, no_progress=100.0, between_rungs=10.0)
HEAD, BASE = "h" * 40, "b" * 40


class Stage:
    """One ticket and the supervisor that minds it."""

    def __init__(self, world: World, wanted: Ticket, supervisor: Supervisor | None = None) -> None:
        self.world = world
        self.ticket = wanted
        self.supervisor = supervisor or world.make(policy=POLICY)

    @property
    def view(self) -> TicketView:
        return self.world.seen(self.ticket)

    def turns(self, count: int = 4) -> None:
        self.world.turns(self.supervisor, count)

    def order(self, kind: EffectKind) -> Effect:
        """The newest order of that kind."""
        return self.world.ordered(self.ticket, kind)[-1]

    def claimed(self) -> None:
        """The next attempt is claimed and its agent at work."""
        if self.world.ledgers["people"].view(self.ticket.id) is None:
            self.world.players.accept(self.ticket)
        self.turns()
        effect = self.order(EffectKind.START_ATTEMPT)
        ledger = self.world.ledgers["attempt"]
        assert ledger.begin("agents", effect, "guard")
        self.says(
            AttemptStarted("here", effect.attempt, self.ticket.agent, ledger.incarnation()),
            WorkspaceReady(BASE, 3, 0.1, 0.1),
            AgentStarted(self.ticket.agent, "landlock"),
        )
        self.turns(2)

    def says(self, *events: EventData) -> None:
        for event in events:
            self.world.players.attempt_says(self.ticket.id, self.view.attempt, event)
        self.supervisor.turn(0)

    def waits(self, seconds: float, beats: bool = True) -> None:
        """``beats``: the guard's heart beats meanwhile."""
        for _ in range(int(seconds)):
            self.world.clock.advance(1.0)
            if beats:
                self.says(Heartbeat(self.view.seq))
            self.supervisor.turn(0)

    def turn(self, number: int, call: str, digest: str, code: int = 0) -> None:
        """A model's turn with one call."""
        self.says(
            ModelAsked("m"),
            TurnFinished(number, Cost(0.01, 100, 20, 1), "m"),
            ToolStarted(str(number), "shell", call),
            ToolFinished(str(number), digest, code, 12),
        )

    def gated(self, *outcomes: GatesFinished | GatesFailed) -> None:
        """The newest gate order is carried out and says this."""
        effect = self.order(EffectKind.RUN_GATES)
        assert self.world.ledgers["gates"].begin("gates", effect, "gates")
        self._gates(effect, GatesStarted(effect.round, HEAD, BASE, ("tests",)))
        passed = any(isinstance(one, GatesFinished) and one.passed for one in outcomes)
        word = GateFinished(effect.round, "tests", "tests", "passed" if passed else "failed", 1.5, "as it was")
        self._gates(effect, word, *outcomes)
        self.turns(2)

    def _gates(self, effect: Effect, *words: EventData) -> None:
        for word in words:
            self.world.players.say("gates", Source.GATES, self.ticket.id, effect.attempt, word)

    def person(self, word: EventData) -> None:
        self.world.players.person(self.ticket.id, word)
        self.turns(2)

    def publisher(self, *words: EventData) -> None:
        for word in words:
            self.world.players.say("publisher", Source.PUBLISHER, self.ticket.id, self.view.attempt, word)
        self.turns(2)

    def closed(self, merged: bool) -> None:
        self.world.players.say("intake", Source.INTAKE, self.ticket.id, 0, PullRequestClosed(merged, "ada"))
        self.turns(2)

    def goes_well(self) -> None:
        """Healthy workers from here on, and the issue is told."""
        self.world.until_quiet(self.supervisor)
        self.told()

    def told(self) -> None:
        """The status comment shows the newest view."""
        self.publisher(StatusPosted(self.view.version))

    def over(self) -> Ticket:
        """The issue is told of the end, if it is one; what the scene answers."""
        self.told()
        return self.ticket


def model(number: int) -> Ticket:
    return ticket(number, agent="anthropic", label="fleet", trigger=str(number))


def merged(world: World) -> Ticket:
    """A command's change passes its gates, is published, and merged."""
    stage = Stage(world, ticket(1))
    stage.claimed()
    stage.says(ToolStarted("1", "shell", "true"), ToolFinished("1", "d", 0, 12), FilesTouched(1, ("a.py",)))
    stage.says(CHANGE, AttemptStopped("done"))
    stage.goes_well()
    stage.closed(merged=True)
    return stage.over()


def red_gates(world: World) -> Ticket:
    """A model's change is refused twice, and mended by the third attempt."""
    stage = Stage(world, model(2))
    for number in (1, 2):
        stage.claimed()
        stage.turn(1, "pytest -q", f"red {number}", 1)
        stage.says(replace(CHANGE, tree=f"{number}" * 40), AttemptStopped("done"))
        stage.turns()
        stage.gated(GatesFinished(stage.view.round, HEAD, BASE, False, f"{3 - number} tests are red"))
        stage.waits(5)
    stage.goes_well()
    return stage.over()


def stalled(world: World) -> Ticket:
    """An agent goes round in circles, is nudged, interrupted and stopped; people speak to it; the next one ends it."""
    stage = Stage(world, model(3))
    stage.claimed()
    for number in range(1, 6):
        stage.turn(number, "ls", "same")
    stage.waits(12)
    stage.person(SteerRequested("ada", "Look into src, not into tests."))
    stage.waits(25)
    if stage.view.state is State.RUNNING:
        stage.says(AttemptStopped("stopped by the guard"))
    stage.waits(40, beats=False)
    stage.goes_well()
    return stage.over()


def lost(world: World) -> Ticket:
    """Two attempts vanish; the third one's pull request is closed unmerged."""
    stage = Stage(world, ticket(4))
    for _ in range(2):
        stage.claimed()
        stage.waits(33, beats=False)
    stage.goes_well()
    stage.closed(merged=False)
    return stage.over()


def paused(world: World) -> Ticket:
    """Paused at work, resumed by a person."""
    stage = Stage(world, model(5))
    stage.claimed()
    stage.person(PauseRequested("ada"))
    stage.person(ResumeRequested("bob"))
    stage.goes_well()
    return stage.over()


def cancelled(world: World) -> Ticket:
    """Cancelled in review, so that the fleet closes its own pull request."""
    stage = Stage(world, ticket(6))
    world.players.accept(stage.ticket)
    stage.goes_well()
    stage.person(CancelRequested("ada", "not needed"))
    stage.publisher(Withdrawn(7))
    return stage.over()


def approved(world: World) -> Ticket:
    """Policy asks; a person allows exactly that commit."""
    stage = Stage(world, model(7))
    stage.claimed()
    stage.says(CHANGE, AttemptStopped("done"))
    stage.turns()
    stage.gated(GatesFinished(1, HEAD, BASE, False, "a workflow file changed", needs="approval"))
    stage.told()
    stage.person(ApprovalGiven("ada", HEAD))
    stage.goes_well()
    return stage.over()


def failing(world: World) -> Ticket:
    """Attempts that fail by class until none is left; asked for once more, and parked by a missing key."""
    stage = Stage(world, model(8))
    for number, kind in enumerate((FailureClass.AGENT_ERROR, FailureClass.TRANSIENT, FailureClass.CRASHED), 1):
        stage.claimed()
        stage.says(AttemptFailed(kind, f"It failed in its {number}. way.", "the end of its log"))
        world.clock.advance(1000.0)
    stage.claimed()
    stage.says(AttemptFailed(FailureClass.AGENT_ERROR, "It gave up."))
    stage.turns()
    stage.told()
    stage.person(RetryRequested("ada"))
    stage.claimed()
    stage.says(AttemptFailed(FailureClass.CONFIG, "ANTHROPIC_API_KEY is not set."))
    stage.turns()
    return stage.over()


def outages(world: World) -> Ticket:
    """Gates that cannot be run, a gate runner that vanishes, a forge that is away, a base that moves."""
    stage = Stage(world, ticket(9))
    stage.claimed()
    stage.says(CHANGE, AttemptStopped("done"))
    stage.turns()
    stage.gated(GatesFailed(1, "The index is away.", outage=True))
    world.clock.advance(60.0)
    stage.turns()
    stage.waits(33, beats=False)
    stage.gated(GatesFinished(1, HEAD, BASE, True, "1 passed"))
    for problem in (PublishProblem.FORGE_DOWN, PublishProblem.BASE_MOVED):
        world.clock.advance(60.0)
        stage.turns()
        effect = stage.order(EffectKind.PUBLISH)
        assert world.ledgers["publisher"].begin("publisher", effect, "publisher")
        stage.publisher(PublishFailed(effect.round, problem, "as it says"))
    stage.goes_well()
    return stage.over()


def late(world: World) -> Ticket:
    """An attempt that was cut off comes back before its successor is claimed, and hands over."""
    stage = Stage(world, ticket(10))
    stage.claimed()
    stage.waits(33, beats=False)
    stage.turns()
    assert (stage.view.state, stage.view.attempt) == (State.STARTING, 2)
    world.players.attempt_says(stage.ticket.id, 1, TurnFinished(1, Cost(0.01, 100, 20, 1), "m"), CHANGE)
    stage.turns()
    stage.goes_well()
    return stage.over()


def budget(world: World) -> Ticket:
    """Its money is used up; a person allows more, and it goes on."""
    stage = Stage(world, model(11))
    stage.claimed()
    stage.turn(1, "pytest -q", "red", 1)
    stage.says(AttemptFailed(FailureClass.BUDGET, "It asks before it spends more than $2."))
    stage.turns()
    stage.told()
    stage.person(BudgetRaised("ada", 1.5))
    stage.goes_well()
    return stage.over()


def gap(world: World) -> Ticket:
    """Two events are lost on the way, asked for again, and said again; a probe is answered."""
    stage = Stage(world, model(12))
    stage.claimed()
    words: list[EventData] = [Note("reads the issue"), CommandSeen("1", "probe"), SignGiven("running", 2, 0.5, 1.0)]
    seq, say = stage.view.seq, world.players.say
    say("attempt", Source.ATTEMPTS, stage.ticket.id, 1, words[-1], seq + 3)
    stage.turns()
    for number, word in enumerate(words, seq + 1):
        say("attempt", Source.ATTEMPTS, stage.ticket.id, 1, word, number)
    world.players.seqs[stage.ticket.id, 1] = seq + 3
    stage.turns()
    stage.says(CHANGE, AttemptStopped("done"))
    stage.goes_well()
    stage.closed(merged=True)
    return stage.over()


SCENES: dict[str, Callable[[World], Ticket]] = {
    scene.__name__: scene
    for scene in (
        merged,
        red_gates,
        stalled,
        lost,
        paused,
        cancelled,
        approved,
        failing,
        outages,
        late,
        budget,
        gap,
    )
}
