"""Work whose process was told to stop comes back: ordered again at once, and nothing is counted for it (I18)."""

from __future__ import annotations

import pytest

from fleet.core.effects import EffectKind
from fleet.core.events import AttemptFailed, GatesFailed, GatesFinished, PublishFailed, PublishProblem, Source
from fleet.core.retry import FailureClass
from fleet.core.states import Reason, State
from fleet.core.ticket import TicketLimits
from supervisor.policy import Policy
from tests.supervisor.test_losses import gating, publishing
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.tickets import ticket

# More often than gates or a publisher may be lost.
TIMES = 10


def gates_handed_back(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    gating(world, supervisor, wanted)
    for _ in range(TIMES):
        view = world.seen(wanted)
        back = GatesFailed(view.round, "Their worker was stopped.", handed_back=True)
        world.players.say("gates", Source.GATES, wanted.id, 1, back)
        world.turns(supervisor, 2)
        again = world.ordered(wanted, EffectKind.RUN_GATES)[-1]
        assert (again.attempt, again.round, again.turn) == (1, view.round, view.turn + 1), "at once, the same round"
        assert world.ledgers["gates"].begin("gates", again, "another")
    view = world.seen(wanted)
    assert (view.state, view.reason, view.attempt) == (State.GATING, Reason.HANDED_BACK, 1)
    assert dict(view.failures) == {"gating:handed_back": TIMES}
    world.players.say("gates", Source.GATES, wanted.id, 1, GatesFinished(1, "h" * 40, "b" * 40, True, "1 passed"))
    world.turns(supervisor, 2)
    assert world.seen(wanted).state is State.PUBLISHING


def publication_handed_back(world: World) -> None:
    supervisor, wanted = world.make(), ticket()
    publishing(world, supervisor, wanted)
    for _ in range(TIMES):
        view = world.seen(wanted)
        back = PublishFailed(view.round, PublishProblem.HANDED_BACK, "The publisher was stopped.")
        world.players.say("publisher", Source.PUBLISHER, wanted.id, 1, back)
        world.turns(supervisor, 2)
        again = world.ordered(wanted, EffectKind.PUBLISH)[-1]
        assert (again.attempt, again.turn) == (1, view.turn + 1)
        assert world.ledgers["publisher"].begin("publisher", again, "another")
    view = world.seen(wanted)
    assert (view.state, view.reason) == (State.PUBLISHING, Reason.HANDED_BACK)
    assert dict(view.failures) == {"publishing:handed_back": TIMES}


def attempts_handed_back(world: World) -> None:
    """More often than the ticket may have attempts."""
    policy = Policy(backoff_first=0.1, backoff_most=0.1)
    supervisor, wanted = world.make(policy=policy), ticket(limits=TicketLimits(attempts=1))
    world.players.accept(wanted)
    for number in range(1, 4):
        world.turns(supervisor, 6)
        assert world.ledgers["attempt"].claim(wanted.id, number, "guard")
        back = AttemptFailed(FailureClass.HANDED_BACK, "The attempt was stopped by its host and given back.")
        world.players.attempt_says(wanted.id, number, back)
        world.turns(supervisor, 2)
    view = world.seen(wanted)
    assert view.hand_backs == 3
    assert all(cause.startswith("handed_back") for cause, _ in view.failures), view.failures
    world.until_quiet(supervisor)
    assert world.seen(wanted).state is State.IN_REVIEW


SCENARIOS = [gates_handed_back, publication_handed_back, attempts_handed_back]


@pytest.mark.invariant("I18")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_what_is_handed_back_counts_nothing(world: World, scenario: object) -> None:
    assert callable(scenario)
    scenario(world)


@pytest.mark.invariant("I18")
@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("supervisor.decide:_gating", "failed.handed_back", "False", gates_handed_back),
        Mutant("supervisor.decide:_publishing", "Reason.HANDED_BACK", "Reason.LOST", publication_handed_back),
        Mutant(
            "supervisor.fold:_counted", "if ended and changed.reason in _UNCOUNTED:", "if False:", attempts_handed_back
        ),
        Mutant("supervisor.decide:_regate", "if reason in _AT_ONCE", "if reason is Reason.LOST", gates_handed_back),
    ],
    ids=lambda mutant: mutant.where,
)
def test_a_hand_back_that_counts_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError):
        mutant.scenario(world)
