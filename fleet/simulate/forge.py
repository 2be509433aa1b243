"""The forge outside: branches that only move from where the caller believes them, pull requests, a base that moves.

It may refuse a call, or carry it out and then answer with an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fleet.core.errors import TemporaryError, UsageError
from fleet.core.ticket import Ticket
from fleet.simulate.lines import Weather
from fleet.simulate.record import Protections

SOMEBODY = "somebody's commit"


@dataclass(slots=True)
class Pull:
    """``touched``: a person pushed to it."""

    number: int
    ticket: str
    branch: str
    head: str
    open: bool = True
    merged: bool = False
    touched: bool = False


class Forge:
    """``pushed(ticket, (attempt, round), head)`` and ``opened(pull)`` are called after each change by the fleet."""

    def __init__(self, weather: Weather, protections: Protections) -> None:
        self._weather = weather
        self._protections = protections
        self.branches: dict[str, str] = {}
        self.pulls: dict[int, Pull] = {}
        self._by_ticket: dict[str, list[Pull]] = {}
        self._bases: dict[str, int] = {}
        self.away_until = 0.0
        self.pushed: Callable[[str, tuple[int, int], str], None] = lambda *_: None
        self.opened: Callable[[Pull], None] = lambda _: None

    def _struck(self, who: str) -> bool:
        """Whether the answer to this call is lost. Raises TemporaryError when it is refused."""
        if self.away_until > self._weather.time.monotonic():
            raise TemporaryError("The forge does not answer.")
        struck = self._weather.faults.strike("forge", who) if self._weather.faults.rates else ""
        if struck == "refuse":
            self._weather.say(who, "is refused by the forge")
            raise TemporaryError("The forge answered 502.")
        return struck == "deaf"

    def _answer(self, who: str, deaf: bool) -> None:
        if deaf:
            self._weather.say(who, "gets a 502 for what the forge has done")
            raise TemporaryError("The forge answered 502.")

    # --- git -------------------------------------------------------------------------------------------------------
    def base(self, repo: str) -> str:
        return f"base{self._bases.get(repo, 0)}"

    def moves(self, repo: str) -> None:
        """Somebody merges something else."""
        self._bases[repo] = self._bases.get(repo, 0) + 1

    def behind(self, repo: str, base: str) -> int:
        return self._bases.get(repo, 0) - int(base.removeprefix("base"))

    def head(self, who: str, branch: str) -> str:
        deaf = self._struck(who)
        self._answer(who, deaf)
        return self.branches.get(branch, "")

    def push(self, who: str, ticket: Ticket, fence: tuple[int, int], head: str, lease: str) -> bool:
        """False when the branch is no longer at ``lease``."""
        deaf = self._struck(who)
        if self._protections.push_lease and self.branches.get(ticket.branch, "") != lease:
            self._weather.say(who, f"may not push {head}: the branch was moved")
            return False
        self._weather.say(who, f"pushes {head} to {ticket.branch}")
        self.branches[ticket.branch] = head
        for pull in self._by_ticket.get(ticket.id, ()):
            pull.head = head
        self.pushed(ticket.id, fence, head)
        self._answer(who, deaf)
        return True

    def person_pushes(self, ticket: Ticket) -> None:
        head = f"{SOMEBODY} on {ticket.branch}"
        self.branches[ticket.branch] = head
        for pull in self._by_ticket.get(ticket.id, ()):
            pull.head, pull.touched = head, True

    def of(self, ticket: str) -> list[Pull]:
        """Every pull request of the ticket, oldest first."""
        return self._by_ticket.get(ticket, [])

    # --- pull requests ---------------------------------------------------------------------------------------------
    def find(self, who: str, ticket: Ticket) -> Pull | None:
        """Open or closed; an open one first, then the newest."""
        deaf = self._struck(who)
        self._answer(who, deaf)
        mine = self._by_ticket.get(ticket.id, ())
        return max(mine, key=lambda pull: (pull.open, pull.number), default=None)

    def create(self, who: str, ticket: Ticket) -> Pull:
        """Raises UsageError when an open pull request of this branch exists."""
        deaf = self._struck(who)
        mine = self._by_ticket.setdefault(ticket.id, [])
        if self._protections.look_up and any(pull.open for pull in mine):
            raise UsageError("A pull request for this branch already exists.")
        head = self.branches.get(ticket.branch, "")
        pull = Pull(len(self.pulls) + 1, ticket.id, ticket.branch, head, touched=head.startswith(SOMEBODY))
        self.pulls[pull.number] = pull
        mine.append(pull)
        self._weather.say(who, f"opens pull request {pull.number} at {pull.head}")
        self.opened(pull)
        self._answer(who, deaf)
        return pull

    def close(self, who: str, pull: Pull) -> None:
        deaf = self._struck(who)
        self._weather.say(who, f"closes pull request {pull.number}")
        pull.open = False
        self._answer(who, deaf)
