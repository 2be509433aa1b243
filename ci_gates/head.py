"""Builds H: the one commit that is gated and, if it passes, pushed. Same input, same SHA."""

from __future__ import annotations

from dataclasses import dataclass

from ci_gates.plain import clean
from fleet.adapters.git import BareRepo, Person
from fleet.core.ticket import Ticket

FLEET = Person("Fleet", "fleet@localhost")
_SUBJECT = 100


@dataclass(frozen=True, slots=True)
class Head:
    """``sha`` is empty when there is no H: ``conflicts`` names the paths, or ``empty`` says base has it already."""

    sha: str
    base_sha: str
    conflicts: tuple[str, ...] = ()
    empty: bool = False


def build_head(store: BareRepo, ticket: Ticket, commit: str, base_sha: str, previous_head: str = "") -> Head:
    """``commit`` (the change handed over) merged with the current base, in the fleet's own repository.

    The parent is base, in later rounds ``previous_head`` (the pull request's head) and base where that is new to it.
    Author, message and date come from the ticket alone.
    """
    merged = store.merge_tree(base_sha, commit)
    if merged.tree is None:
        return Head("", base_sha, merged.conflicts)
    if merged.tree == store.tree(base_sha):
        return Head("", base_sha, empty=True)
    parents: tuple[str, ...] = (base_sha,)
    if previous_head:
        known = store.is_ancestor(base_sha, previous_head)
        parents = (previous_head,) if known else (previous_head, base_sha)
    sha = store.commit_tree(merged.tree, parents, message(ticket), FLEET, FLEET, int(ticket.accepted_at))
    return Head(sha, base_sha)


def message(ticket: Ticket) -> str:
    """The title as subject; where it comes from as trailers. Nothing of the issue's body, which anybody may write."""
    subject = " ".join(clean(ticket.title).split())[:_SUBJECT] or "Change"
    number = f"Issue: #{ticket.number}\n" if ticket.number else ""
    return f"{subject}\n\n{number}Fleet-Ticket: {ticket.id}\n"
