"""A whole ticket with a real forge, a real ledger, and the real intake, supervisor and publisher around it.

The test plays the attempt and the gates, says how far the work gets, and then empties the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet.adapters import keys
from fleet.adapters.shard_store import ShardStore
from fleet.core.effects import Effect, EffectKind
from fleet.core.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptStopped,
    ChangeReady,
    Envelope,
    EventData,
    GatesFinished,
    GatesStarted,
    Source,
)
from fleet.core.gates import GatePlanRecord, VerdictRecord
from fleet.core.retry import FailureClass
from fleet.core.states import State
from fleet.core.ticket import TicketLimits
from fleet.core.view import TicketView
from fleet.intake.comments import CommentIntake, Places
from fleet.intake.labels import LabelIntake
from fleet.intake.recovery import Recovery
from fleet.intake.sweep import Sweep
from fleet.intake.watched import Watched
from fleet.publisher.plan import head_ref
from supervisor.admission import Caps
from supervisor.policy import Policy
from supervisor.service import Supervisor
from tests.publisher.world import DIGEST, KEY, REPO, World
from tests.support.clock import FixedDice, VirtualClock

LIMITS = TicketLimits()
# How far the work gets before the ledger is lost. The last three are killed or told to stop there.
MOMENTS = ("queued", "running", "backing_off", "gating", "pushed", "pr_created", "in_review", "parked", "approval")


class Stage:
    """``agent`` works on every ticket. Wake-ups are remembered, and done when the test says so. With ``places`` orders
    in comments are taken, too. ``hold_again`` as in ``Sweep``.
    """

    def __init__(
        self,
        world: World,
        agent: str = "command:true",
        caps: Caps | None = None,
        places: Places | None = None,
        hold_again: Callable[[], None] = lambda: None,
    ) -> None:
        self.world = world
        self.agent = agent
        self.clock = VirtualClock()
        self.woken: list[Effect] = []
        self.moment = ""
        self._seqs: dict[tuple[str, int], int] = {}
        bot = world.hub(world.token)
        self.recovery = Recovery(
            world.ledger, bot, self.clock, KEY, lambda: (REPO,), lambda repo: agent, lambda repo, branch: LIMITS
        )
        labels = LabelIntake(world.ledger, bot, self.clock, lambda repo, branch: LIMITS, recovery=self.recovery)
        watched = (Watched(REPO, "fleet", agent),)
        comments = CommentIntake(world.ledger, bot, self.clock, places) if places is not None else None
        self.sweep = Sweep(
            world.ledger,
            labels,
            bot,
            self.clock,
            lambda: watched,
            lambda repo: 60.0,
            comments,
            self.recovery,
            hold_again,
        )
        self.tasks = world.tasks()
        self.supervisor = self.supervise("one", caps)

    def supervise(self, name: str, caps: Caps | None = None) -> Supervisor:
        store = ShardStore(self.world.redis, name)
        store.open(f"opened by {name}")
        return Supervisor(store, self, self.clock, FixedDice(), Policy(status_every=0.0), caps or Caps())

    def wake(self, effect: Effect) -> None:
        self.woken.append(effect)

    # --- what is there ---------------------------------------------------------------------------------------------
    def view(self, number: int) -> TicketView:
        (found,) = [view for view in self.world.ledger.views() if view.ticket.number == number]
        return found

    def comment(self, number: int) -> str:
        (found,) = self.world.bob.comments_on(REPO, number, "<!-- fleet:status")
        return found.body

    def labels(self, number: int) -> set[str]:
        return set(self.world.bob.issue(REPO, number).labels)

    # --- the work --------------------------------------------------------------------------------------------------
    def issue(self, title: str = "Mend it", body: str = "Please.") -> int:
        return self.world.bob.create_issue(REPO, title, body, ("fleet",)).number

    def until(self, moment: str) -> None:
        """Works until nothing happens any more at ``moment`` (one of ``MOMENTS``, or empty: to the end)."""
        self.moment = moment
        self.turns()
        self.clock.advance(61.0)
        self.sweep.once()
        # A pause of half a minute must not be over.
        for _ in range(5 if moment == "backing_off" else 12):
            self.turns()
            self.act()

    def turns(self, count: int = 4, seconds: float = 0.6) -> None:
        for _ in range(count):
            self.clock.advance(seconds)
            self.supervisor.once(0)

    def lose(self) -> None:
        """The ledger is emptied, and with it every wake-up under way."""
        self.world.redis.flushall()
        self.woken.clear()

    def act(self) -> None:
        woken, self.woken = self.woken, []
        for effect in {effect.id: effect for effect in woken}.values():
            match effect.kind:
                case EffectKind.START_ATTEMPT:
                    self._attempt(effect)
                case EffectKind.RUN_GATES:
                    self._gates(effect)
                case EffectKind.PUBLISH:
                    if self.moment not in ("pushed", "pr_created"):
                        self.tasks.pull_request(effect.ticket, effect.attempt, effect.round)
                case EffectKind.STATUS:
                    self.tasks.status(effect.ticket, effect.attempt, effect.round)
                case EffectKind.WITHDRAW:
                    self.tasks.withdraw(effect.ticket, effect.attempt, effect.round)
                case _:
                    raise AssertionError(effect)

    def _attempt(self, effect: Effect) -> None:
        ledger = self.world.ledger
        if not ledger.begin("agents", effect, "guard"):
            return
        self.attempt_says(effect, AttemptStarted("h", 1, self.agent, ledger.incarnation()))
        if self.moment == "running":
            return
        if self.moment in ("parked", "backing_off"):
            kind = FailureClass.CONFIG if self.moment == "parked" else FailureClass.AGENT_ERROR
            self.attempt_says(effect, AttemptFailed(kind, "no key for the registry"), AttemptStopped("failed"))
            return
        change = ChangeReady("bundle", "c" * 40, "t" * 40, self.world.base, 1, 1, 0)
        self.attempt_says(effect, change, AttemptStopped("done"))

    def attempt_says(self, effect: Effect, *events: EventData) -> None:
        for data in events:
            at = (effect.ticket, effect.attempt)
            self._seqs[at] = self._seqs.get(at, 0) + 1
            self._say(Source.ATTEMPTS, effect, data, self._seqs[at])

    def _gates(self, effect: Effect) -> None:
        world, ticket, attempt = self.world, effect.ticket, effect.attempt
        if not world.ledger.begin("gates", effect, "gates"):
            return
        head = world.commit(world.base, {"a.py": ""}, f"Attempt {attempt} of {ticket}")
        self._say(Source.GATES, effect, GatesStarted(effect.round, head, world.base, ("tests",)))
        if self.moment == "gating":
            return
        if self.moment == "approval":
            asks = GatesFinished(effect.round, head, world.base, False, "a workflow file", needs="approval")
            self._say(Source.GATES, effect, asks)
            return
        world.store.update_ref(head_ref(ticket, attempt), head)
        names = ("policy", "lint", "tests")
        view = world.ledger.view(ticket)
        assert view is not None
        plan = GatePlanRecord(ticket, attempt, effect.round, head, world.base, DIGEST, names, names)
        world.ledger.put_gate_plan(plan)
        for record in world.records(view.ticket, head, attempt):
            world.ledger.put_gate_record(record)
        world.ledger.put_verdict(
            VerdictRecord(ticket, attempt, effect.round, head, world.base, DIGEST, True, "3 gates passed")
        )
        self._say(Source.GATES, effect, GatesFinished(effect.round, head, world.base, True, "3 gates passed"))

    def _say(self, source: Source, effect: Effect, data: EventData, seq: int = 0) -> None:
        event = Envelope("default", effect.ticket, effect.attempt, seq, self.clock.now(), data, source)
        self.world.ledger.send(source, [event])

    def incarnation(self) -> str:
        return str(self.world.redis.hget(keys.META, "incarnation"))


def states(stage: Stage) -> dict[int, tuple[State, str, str]]:
    """Issue → (state, reason, branch) of its ticket."""
    return {
        view.ticket.number: (view.state, view.reason.value, view.ticket.branch) for view in stage.world.ledger.views()
    }
