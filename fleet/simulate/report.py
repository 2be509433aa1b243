"""Many worlds, one after the other, and what they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from fleet.adapters.pool import Spread
from fleet.core.ports import Clock
from fleet.simulate.record import Protections
from fleet.simulate.shrink import Story, shortest
from fleet.simulate.world import Outcome, Plan, run

AT_ONCE = 400
_LOST = frozenset({"I1", "I6"})
_DOUBLED = frozenset({"I2", "I3", "I4"})


@dataclass(slots=True)
class Totals:
    """``seconds`` are the machine's, ``virtual`` those of the simulated clocks. ``story``: of the world that failed."""

    seed: int
    level: str
    worlds: int = 0
    tickets: int = 0
    steps: int = 0
    events: int = 0
    virtual: float = 0.0
    seconds: float = 0.0
    superfluous: int = 0
    take_overs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    story: Story | None = None

    def add(self, outcome: Outcome) -> None:
        self.worlds += 1
        self.tickets += outcome.tickets
        self.steps += outcome.steps
        self.events += outcome.events
        self.virtual += outcome.seconds
        self.superfluous += outcome.superfluous
        self.take_overs += outcome.take_overs
        self.ends += outcome.ends
        self.reached += outcome.reached
        self.faults += outcome.faults

    def struck(self, *names: str) -> int:
        """How many faults of these kinds struck, wherever."""
        return sum(count for name, count in self.faults.items() if name.split(".")[1] in names)

    @property
    def killed(self) -> int:
        return self.struck("kill", "kill_after", "host")

    @property
    def drained(self) -> int:
        """Machines, queues of workers and supervisors that were sent SIGTERM."""
        return self.struck("machine", "workers", "supervisor")

    @property
    def cut(self) -> int:
        return self.struck("cut", "away", "store", "partition")

    @property
    def lost(self) -> int:
        return int(self.story is not None and self.story.promise in _LOST)

    @property
    def doubled(self) -> int:
        return int(self.story is not None and self.story.promise in _DOUBLED)

    def row(self) -> dict[str, object]:
        """For scripts."""
        return {
            "seed": self.seed,
            "faults": self.level,
            "rounds": self.worlds,
            "tickets": self.tickets,
            "struck": dict(sorted(self.faults.items())),
            "killed": self.killed,
            "drained": self.drained,
            "take_overs": self.take_overs,
            "clock_jumps": self.struck("jump", "leap"),
            "duplicates": self.struck("double", "forge"),
            "lost": self.lost,
            "doubled": self.doubled,
            "superfluous_pull_requests_closed": self.superfluous,
            "steps": self.steps,
            "events": self.events,
            "ends": dict(sorted(self.ends.items())),
            "virtual_seconds": round(self.virtual),
            "seconds": round(self.seconds, 2),
            "tickets_per_second": round(self.tickets / self.seconds, 1) if self.seconds else 0.0,
            "broken": self.story.promise if self.story else "",
        }

    def text(self) -> str:
        """For people."""
        rate = self.tickets / self.seconds if self.seconds else 0.0
        ends = ", ".join(f"{name} {count}" for name, count in self.ends.most_common())
        faults = ", ".join(f"{name} {count}" for name, count in self.faults.most_common())
        return "\n".join(
            (
                f"rounds {self.worlds}, tickets {self.tickets}, steps checked {self.steps}, events {self.events}",
                f"killed {self.killed}, frozen {self.struck('freeze')}, cut off {self.cut}, drained {self.drained}, "
                f"duplicates {self.struck('double', 'forge')}, answers lost {self.struck('deaf')}, "
                f"clock jumps {self.struck('jump', 'leap')}, shards taken over {self.take_overs}",
                f"lost {self.lost}, doubled {self.doubled}, "
                f"second pull requests of late publishers, all closed again: {self.superfluous}",
                f"end states: {ends}",
                f"faults: {faults or 'none'}",
                f"{self.seconds:.1f} s for {self.virtual / 3600:.1f} virtual hours: {rate:.0f} tickets/s",
            )
        )


def plans(tickets: int, seed: int, level: str, at_once: int, protections: Protections) -> Iterator[Plan]:
    """World after world: the seeds are ``seed``, ``seed + 1`` …, so that each can be run alone."""
    whole, rest = divmod(tickets, at_once)
    for index in range(whole + bool(rest)):
        count = at_once if index < whole else rest
        yield Plan(seed + index, tuple(range(1, count + 1)), level, protections=protections)


def _played(plan: Plan) -> tuple[Plan, Outcome]:
    return plan, run(plan)


def simulate(
    tickets: int,
    seed: int,
    level: str,
    clock: Clock,
    *,
    at_once: int = AT_ONCE,
    protections: Protections | None = None,
    seconds: float = float("inf"),
    progress: Callable[[Totals], None] = lambda _: None,
    spread: Spread = map,
) -> Totals:
    """Until every world has ended, the first promise broke, or ``seconds`` have passed.

    ``spread``: a ``map`` that may play several worlds at a time; they are counted in the order of their seeds.
    """
    totals = Totals(seed, level)
    start = clock.monotonic()
    worlds = plans(tickets, seed, level, at_once, protections or Protections())
    for plan, outcome in spread(_played, worlds):
        totals.add(outcome)
        totals.seconds = clock.monotonic() - start
        if outcome.broken is not None:
            totals.story = shortest(replace(plan), outcome)
            break
        if totals.seconds >= seconds:
            break
        progress(totals)
    return totals
