"""What lies outside the record: artifacts, the fleet's own repository, and what each change is really worth."""

from __future__ import annotations

from collections.abc import Callable

from fleet.core.events import ChangeReady
from fleet.core.ticket import Ticket
from fleet.simulate import fates
from fleet.simulate.chance import Chance
from fleet.simulate.fates import Try
from fleet.simulate.forge import Forge


class Places:
    """``bundles``: (ticket, attempt) → the change handed over last. ``heads``: (ticket, attempt) → H built last.

    ``pushed``: ticket → (attempt, round) → what its publisher pushed, or died pushing.
    """

    def __init__(self, chance: Chance, forge: Forge, claimed: Callable[[str, int, str], None]) -> None:
        self._chance = chance
        self.forge = forge
        self.claimed = claimed
        self.bundles: dict[tuple[str, int], ChangeReady] = {}
        self.heads: dict[tuple[str, int], str] = {}
        self.pushed: dict[str, dict[tuple[int, int], str]] = {}
        self.runs: dict[str, int] = {}

    def fate(self, ticket: Ticket, attempt: int) -> Try:
        return fates.attempt(self._chance, ticket, attempt)

    def base(self, ticket: Ticket) -> str:
        return self.forge.base(ticket.repo)

    def hand_over(self, ticket: Ticket, attempt: int, owner: str, base: str) -> ChangeReady:
        commit = f"{ticket.number}.{attempt} by {owner}"
        # Some agents hand over the same thing again and again.
        tree = f"tree of {ticket.number}" if self._chance.fixed(f"stuck {ticket.id}") < 0.1 else commit
        change = ChangeReady(f"tickets/{ticket.id}/{attempt}", commit, tree, base, 1, 1, 0)
        self.bundles[ticket.id, attempt] = change
        return change

    def build(self, ticket: Ticket, attempt: int, change: ChangeReady, base: str) -> str:
        """H: the one commit of this change on this base."""
        head = f"H({change.commit} on {base})"
        self.heads[ticket.id, attempt] = head
        return head

    def verdict(self, ticket: Ticket, attempt: int, base: str) -> str:
        run = self.runs[ticket.id] = self.runs.get(ticket.id, 0) + 1
        return fates.verdict(self._chance, ticket, attempt, base, run)

    def conflicts(self, ticket: Ticket, base: str) -> bool:
        """Whether what came to base touches what the ticket changed."""
        return self._chance.fixed(f"conflict {ticket.id} {base}") < 0.4
