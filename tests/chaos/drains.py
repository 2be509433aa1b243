"""Rounds of SIGTERM: one ticket each, one process told to stop, and a judge of what it cost (I18)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.kit import Fleet, born, children, repository
from tests.realdata.projects import git
from tests.support.wait import eventually

# It lasts long enough for a guard to be met alive.
WORK = "command:sh -c 'sleep 1; ruff check --fix --exit-zero --select F401 .'"
SERVICES = ("host", "supervisor", "attempts", "agents", "gates", "publisher", "intake", "forge")
# ``down`` is the command; whoever followed the ticket then asks for the fleet again.
TARGETS = (*SERVICES, "guard", "down")
# When a target can be met at work: these many events of the ticket at least, and after this kind.
_FIRST = {"guard": "AttemptStarted", "gates": "GatesStarted", "publisher": "PublishStarted"}
# Nothing of these may follow from a signal that asks for a drain: each counts against the ticket. A forge that is told
# to stop is away for a moment, which counts nothing (transient).
FAILURES = frozenset({"lost", "crashed", "stalled", "agent_error", "protocol_violation"})
# The longest grace is the host's: 25 s for its services, and then the kernel.
GRACE = 30.0


@dataclass(frozen=True)
class Drained:
    """How one round ended. ``moves`` are the reasons of the ticket's changes of state, ``starts`` its claims.

    ``tree``: of the pull request's head; ``heads``: as told, of PR, branch and local ref. ``gone``: in time.
    """

    target: str
    signals: int
    state: str
    tree: str
    pulls: int
    heads: frozenset[str]
    moves: tuple[str, ...]
    starts: tuple[int, ...]
    gone: bool

    @property
    def lost(self) -> bool:
        return self.state != "in_review" or self.pulls == 0

    @property
    def failures(self) -> int:
        return sum(reason in FAILURES for reason in self.moves)

    @property
    def handed_back(self) -> int:
        return self.moves.count("handed_back")

    @property
    def outages(self) -> int:
        return self.moves.count("transient")

    @property
    def doubled(self) -> bool:
        """Two pull requests, commits that differ, or one attempt that began twice."""
        twice = self.pulls > 1 or len(set(self.starts)) != len(self.starts)
        return twice or (not self.lost and len(self.heads) != 1)


@dataclass
class Drains:
    """``folder``: for repositories."""

    fleet: Fleet
    folder: Path
    number: int = 0
    _told: dict[int, str] = field(default_factory=dict)

    def round(self, target: str, after: int) -> Drained:
        """``target`` is told to stop once ``after`` events of the ticket were told and it is at work."""
        self.number += 1
        self._told = {}
        repo = repository(self.folder / f"drain-{self.number}")
        words = ("run", "--json", "--repo", str(repo), "--title", "Remove unused imports", "--agent", WORK)
        rows: list[dict[str, Any]] = []
        for row in self._follow(words):
            rows.append(row)
            kinds = {one.get("kind") for one in rows}
            if target and not self._told and len(rows) > after and _FIRST.get(target, "TicketAccepted") in kinds:
                self._stop(target)
        result = rows[-1] if rows and rows[-1].get("type") == "result" else {}
        events = [row for row in rows if row.get("type") == "event"]
        moves = tuple(row["data"]["reason"] for row in events if row["kind"] == "StateChanged")
        starts = tuple(row["attempt"] for row in events if row["kind"] == "AttemptStarted")
        gone = eventually(lambda: not any(born(pid) == moment for pid, moment in self._told.items()), GRACE, 0.1)
        if target in ("down", "host"):
            # The ticket may have come to its end just before all was stopped: then nobody has started it again.
            assert self.fleet("up").code == 0
        pulls, heads, tree = self._left(repo, result)
        state = result.get("state", "no result")
        return Drained(target, len(self._told), state, tree, pulls, heads, moves, starts, gone)

    def _left(self, repo: Path, result: dict[str, Any]) -> tuple[int, frozenset[str], str]:
        """Pull requests, the commits they and the branch are at, and the tree of what the ticket says."""
        name, told = f"local/{repo.name}", result.get("pull_request")
        pulls = self.fleet.pulls(name)
        if not told or not pulls:
            return len(pulls), frozenset(), ""
        bare = self.fleet.bare(name)
        branch = git(bare, "rev-parse", f"refs/heads/{pulls[0]['head']['ref']}").strip()
        heads = {told["head_sha"], pulls[0]["head"]["sha"], branch}
        heads |= {git(repo, "rev-parse", told["local_ref"]).strip()} if told["local_ref"] else set()
        return len(pulls), frozenset(heads), git(bare, "rev-parse", f"{told['head_sha']}^{{tree}}").strip()

    def _follow(self, words: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Every event once, to the ticket's end, also when the fleet is stopped under the command that follows it."""
        seen, ticket = 0, ""
        while True:
            running = self.fleet.start(*words)
            assert running.stdout is not None
            row: dict[str, Any] = {}
            for number, line in enumerate(running.stdout):
                row = json.loads(line)
                ticket = row.get("ticket", ticket)
                if row["type"] == "result" or (row["type"] == "event" and number >= seen):
                    yield row
                    seen += 1
            running.wait(60)
            if row.get("type") != "interrupted":
                return
            assert running.returncode == 130
            assert self.fleet("up").code == 0
            words = ("show", "--json", "-f", ticket)

    def _stop(self, target: str) -> None:
        if target == "down":
            host = self.fleet.services().get("host", 0)
            self._told = {host: born(host)} if host else {}
            assert self.fleet("down").code == 0
            return
        for pid in self._pids(target):
            moment = born(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                self._told[pid] = moment

    def _pids(self, target: str) -> list[int]:
        services = self.fleet.services()
        if target == "guard":
            return children(services.get("attempts", 0))[:1]
        return [pid for name, pid in services.items() if name == target]


COLUMNS = ("rounds", "signals", "in review", "handed back", "outages", "failures")


def table(rounds: Iterable[Drained]) -> str:
    rows = list(rounds)
    lines = [_cells("told to stop", COLUMNS)]
    for name in sorted({one.target for one in rows}):
        mine = [one for one in rows if one.target == name]
        sums = [sum(getattr(one, what) for one in mine) for what in ("handed_back", "outages", "failures")]
        reviewed = sum(not one.lost for one in mine)
        lines.append(_cells(name, (len(mine), sum(one.signals for one in mine), reviewed, *sums)))
    lost, doubled = sum(one.lost for one in rows), sum(one.doubled for one in rows)
    signals, late = sum(one.signals for one in rows), sum(not one.gone for one in rows)
    lines.append(f"rounds {len(rows)}, signals {signals}, lost {lost}, doubled {doubled}, beyond the grace {late}")
    return "\n".join(lines)


def _cells(name: str, cells: Iterable[object]) -> str:
    return f"{name:<14}" + "".join(f"{cell!s:>13}" for cell in cells)
