"""From the place among the live attempts to the agent's start, beside a plain clone of the same mirror."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from fleet.adapters.git import store_name
from fleet.adapters.git_run import git as host_git
from fleet.bench.figures import Figure, Report, Target, Unit, differences
from fleet.bench.rooms import Bench, accept, fleet, folder, import_into, issue, named, repository, view_of
from fleet.core.errors import InternalError
from fleet.core.events import AgentStarted, Envelope, SlotGranted, WorkspaceReady
from fleet.core.states import Reason
from fleet.local.client import Client

FILES = 5000
_PER_FOLDER = 100


def sources(count: int) -> dict[str, str]:
    """``count`` small Python files in folders of a hundred, a kilobyte or two each, none like another."""
    return {
        f"package_{number // _PER_FOLDER:02d}/module_{number:04d}.py": _module(number, 4 + number % 30)
        for number in range(count)
    }


def _module(number: int, functions: int) -> str:
    step = "def step_{0}_{1}(value: int) -> int:\n    return value * {0} + {1}\n"
    return "\n\n".join(step.format(number, one) for one in range(functions))


def measure(bench: Bench) -> Report:
    """Whole tickets whose command changes nothing, and clones, in turns; the first of each warms the mirror."""
    rounds, files = bench.few(7, 2), bench.few(FILES, 200)
    ours: list[float] = []
    clones: list[float] = []
    fetches: list[float] = []
    with folder() as place, fleet(bench) as client:
        repo = import_into(client, repository(place / "many", sources(files)))
        _ticket(bench, client, repo)
        _clone(bench, client, repo)
        for _ in range(rounds):
            clones.append(_clone(bench, client, repo))
            seconds, fetch = _ticket(bench, client, repo)
            ours.append(seconds - fetch)
            fetches.append(fetch)
    return Report(
        "dispatch",
        f"place granted → agent started, warm mirror, {files} files",
        (
            Figure("granted → agent started, without the fetch", Unit.SECONDS, tuple(ours)),
            Figure("git clone --shared and checkout", Unit.SECONDS, tuple(clones)),
            Figure("difference", Unit.SECONDS, differences(ours, clones), Target(0.25)),
            Figure("fetch, apart", Unit.SECONDS, tuple(fetches)),
        ),
    )


def _ticket(bench: Bench, client: Client, repo: str) -> tuple[float, float]:
    """(seconds from the grant to the agent's start, of which the fetch), by the times in the ticket's log."""
    ticket = accept(client, repo, issue(client, repo, "Change nothing"), "command:true")

    def rests() -> bool:
        view = view_of(client, ticket)
        return view is not None and not view.state.active

    bench.until(rests, "the ticket does not end")
    ended = view_of(client, ticket)
    if ended is None or ended.reason is not Reason.NOTHING_CHANGED:
        raise InternalError(f"A ticket failed: {named([ended] if ended else [])}.")
    return times([event for _, event in client.ledger().log(ticket.id)])


def times(log: Sequence[Envelope]) -> tuple[float, float]:
    """Raises InternalError for a log without grant, workspace or agent."""
    granted = next((event.at for event in log if isinstance(event.data, SlotGranted)), None)
    started = next((event.at for event in log if isinstance(event.data, AgentStarted)), None)
    fetch = next((event.data.fetch_seconds for event in log if isinstance(event.data, WorkspaceReady)), None)
    if granted is None or started is None or fetch is None:
        raise InternalError(f"No agent was started: {', '.join(event.kind for event in log)}.", str(log[-1].data))
    return started - granted, fetch


def _clone(bench: Bench, client: Client, repo: str) -> float:
    """The reference: what git itself needs for a working copy that borrows the mirror's objects."""
    mirror = client.home.layout.mirrors / store_name(repo)
    copy = client.home.layout.work / "bench-clone"
    begun = bench.clock.monotonic()
    host_git("clone", "-q", "--shared", str(mirror), str(copy), settings=(("safe.directory", "*"),))
    seconds = bench.clock.monotonic() - begun
    shutil.rmtree(copy)
    return seconds
