"""What a fleet costs that does nothing, and what an attempt more costs that waits."""

from __future__ import annotations

import itertools
from statistics import median

from fleet.adapters.sandbox import procfs
from fleet.bench.figures import Figure, Report, Target, Unit
from fleet.bench.procs import costs, of_home, table
from fleet.bench.rooms import Bench, accept, fleet, folder, import_into, issue, repository
from fleet.core.states import State
from fleet.local.client import Client

SETTLE_S = 8.0
IDLE_CPU, IDLE_PSS, ATTEMPT_PSS = Target(2.0), Target(450e6), Target(40e6)
_SLEEPER = "command:sleep 600"


def measure(bench: Bench) -> Report:
    """CPU and memory of all processes of a home over 20 s; Flower is left out."""
    seconds, samples = bench.few(20, 4), bench.few(3, 1)
    cpu: list[float] = []
    pss: list[float] = []
    lines: tuple[str, ...] = ()
    with fleet(bench) as client:
        bench.clock.sleep(SETTLE_S)
        for _ in range(samples):
            pids = of_home(client)
            before, begun = costs(pids), bench.clock.monotonic()
            bench.clock.sleep(seconds)
            after, passed = costs(pids), bench.clock.monotonic() - begun
            lines = table(before, after, passed)
            cpu.append(100 * sum(now.cpu - before[pid].cpu for pid, now in after.items()) / passed)
            pss.append(float(sum(one.pss for one in after.values())))
    figures = (
        Figure("CPU of all processes, of one core", Unit.PERCENT, tuple(cpu), IDLE_CPU),
        Figure("PSS of all processes", Unit.MEMORY, tuple(pss), IDLE_PSS),
    )
    return Report("idle", f"a fleet without Flower and without tickets, over {seconds} s", figures, lines)


def measure_attempt(bench: Bench) -> Report:
    """The memory of the whole home with one, two, three … live attempts whose agent sleeps."""
    count = bench.few(6, 2)
    own: list[float] = []
    totals: list[float] = []
    with folder() as place, fleet(bench, FLEET_WORKERS_AGENTS="16") as client:
        repo = import_into(client, repository(place / "small", {"a.py": "VALUE = 1\n"}))
        for _ in range(count):
            _sleeper(bench, client, repo)
            bench.clock.sleep(2.0)
            guards, agents = _attempts(client)
            own.append(median(float(one) for one in guards))
            totals.append(float(sum(one.pss for one in costs(of_home(client)).values()) - sum(agents)))
    more = tuple(now - before for before, now in itertools.pairwise(totals))
    figures = (
        Figure("an attempt more, whole home", Unit.MEMORY, more, ATTEMPT_PSS, "aim 15 MB"),
        Figure("guard and loop of one attempt", Unit.MEMORY, tuple(own), note=f"as 1 … {count} attempts live"),
    )
    return Report("attempt", "PSS of one more live attempt, its sandboxed command apart", figures)


def _sleeper(bench: Bench, client: Client, repo: str) -> None:
    ticket = accept(client, repo, issue(client, repo, "Sleep"), _SLEEPER)

    def sleeps() -> bool:
        view = client.ledger().view(ticket.id)
        return view is not None and view.state is State.RUNNING and view.activity.startswith("sleep")

    bench.until(sleeps, "the agent does not sleep")


def _attempts(client: Client) -> tuple[list[int], list[int]]:
    """(bytes of guard and loop per attempt, bytes of what runs in its sandbox per attempt)."""
    host = client.home.service_pids()["attempts"]
    guards: list[int] = []
    agents: list[int] = []
    for guard in (row.pid for row in procfs.descendants(host) if row.parent == host):
        below = [row.pid for row in procfs.descendants(guard) if row.parent == guard]
        family = {pid for pid in (guard, *below)}
        rest = {row.pid for row in procfs.descendants(guard)} - family
        guards.append(sum(one.pss for one in costs(sorted(family)).values()))
        agents.append(sum(one.pss for one in costs(sorted(rest)).values()))
    return guards, agents
