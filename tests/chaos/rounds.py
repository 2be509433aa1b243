"""Rounds of kill -9: one ticket each, one death each, and a judge of what is left in the end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.kit import Fleet, children, repository
from tests.realdata.projects import git

SETTINGS = {"FLEET_SUPERVISION_LOST_AFTER": "7", "FLEET_SUPERVISION_CLAIM_WITHIN": "7"}
# The command takes long enough for a guard and a loop to be met alive.
WORK = "command:sh -c 'sleep 1; ruff check --fix --exit-zero --select F401 .'"
SERVICES = ("host", "supervisor", "forge", "attempts", "agents", "gates", "publisher")
PROCESSES = (*SERVICES, "redis", "guard", "loop")
# What the ticket's log must have told before a process of the attempt can be alive, and how many more events may pass.
_FIRST = {"guard": "AttemptStarted", "loop": "WorkspaceReady"}


@dataclass(frozen=True)
class End:
    """How one round ended. ``tree``: of the pull request's head; ``heads``: as told, of PR, branch, local ref."""

    what: str
    killed: int
    state: str
    tree: str
    pulls: int
    heads: frozenset[str]
    attempts: int
    said: str = ""

    @property
    def lost(self) -> bool:
        return self.state != "in_review" or self.pulls == 0

    @property
    def doubled(self) -> bool:
        return self.pulls > 1 or (not self.lost and len(self.heads) != 1)


def look(fleet: Fleet, repo: Path, what: str, killed: int, row: dict[str, Any], said: str) -> End:
    name = f"local/{repo.name}"
    pulls = fleet.pulls(name)
    pull = row.get("pull_request")
    heads, tree = set(), ""
    if pull:
        branch = pulls[0]["head"]["ref"]
        heads = {
            pull["head_sha"],
            pulls[0]["head"]["sha"],
            git(fleet.bare(name), "rev-parse", f"refs/heads/{branch}").strip(),
        }
        heads |= {git(repo, "rev-parse", pull["local_ref"]).strip()} if pull["local_ref"] else set()
        tree = git(fleet.bare(name), "rev-parse", f"{pull['head_sha']}^{{tree}}").strip()
    return End(
        what, killed, row.get("state", "no result"), tree, len(pulls), frozenset(heads), row.get("attempts", 0), said
    )


class Rounds:
    """``folder``: for repositories and for the file that names the next crash point.

    When an attempt was lost a person asks for the retry at once instead of waiting for the end of its backoff.
    """

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet = fleet
        self._folder = folder
        self._number = 0
        self._choice = folder / "crash-at"
        fleet.env["FLEET_CRASH_AT"] = f"@{self._choice}"

    def undisturbed(self) -> End:
        return self._run("nothing", lambda _events: 0)

    def at_point(self, point: str) -> End:
        """The first process that comes to ``point`` dies there."""
        deaths = self._folder / f"deaths-{self._number}"
        deaths.mkdir()
        self._choice.write_text(f"{point}:1:{deaths}")
        try:
            return self._run(point, lambda _events: len(list(deaths.iterdir())))
        finally:
            self._choice.unlink()

    def of_process(self, name: str, after: int) -> End:
        """``name`` dies as soon as it lives and ``after`` events of the ticket were told."""
        killed = 0

        def kill(events: list[str]) -> int:
            nonlocal killed
            if not killed and len(events) > after and _FIRST.get(name, "TicketAccepted") in events:
                for pid in self._pids(name):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
            return killed

        return self._run(f"{name} after {after}", kill)

    def _run(self, what: str, meanwhile: Any) -> End:
        self._number += 1
        repo = repository(self._folder / f"round-{self._number}")
        words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", WORK)
        running = self._fleet.start(*words)
        assert running.stdout is not None and running.stderr is not None
        events: list[str] = []
        row: dict[str, Any] = {}
        for line in running.stdout:
            row = json.loads(line)
            events.append(row.get("kind", ""))
            meanwhile(events)
            if row.get("kind") == "StateChanged" and row["data"]["state"] == "backing_off":
                self._fleet("retry", row["ticket"])
        said = running.stderr.read()
        running.wait(60)
        return look(self._fleet, repo, what, meanwhile(events), row if row.get("type") == "result" else {}, said[-500:])

    def _pids(self, name: str) -> list[int]:
        if name in SERVICES:
            return [pid for service, pid in self._fleet.services().items() if service == name]
        if name == "redis":
            return [pid for pid, words in self._fleet.processes().items() if "server.conf" in words]
        guards = children(self._fleet.services().get("attempts", 0))
        return guards if name == "guard" else [loop for guard in guards for loop in children(guard)[:1]]


def table(ends: Iterable[End]) -> str:
    rows = list(ends)
    lines = [f"{'killed':<34}{'kills':>6}{'state':>12}{'PRs':>5}{'attempts':>10}"]
    lines += [f"{end.what:<34}{end.killed:>6}{end.state:>12}{end.pulls:>5}{end.attempts:>10}" for end in rows]
    sums = sum(end.killed for end in rows), sum(end.lost for end in rows), sum(end.doubled for end in rows)
    return "\n".join([*lines, f"rounds {len(rows)}, kills {sums[0]}, lost {sums[1]}, doubled {sums[2]}"])
