"""The supervisor's thresholds, in seconds and counts. Built-in defaults; the operator's settings replace them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """``lost_after``: silence after which a begun effect's worker counts as dead.

    ``claim_within``: how long a dispatched attempt may stay unclaimed before it goes back to the queue.
    ``rewake_after``: the broker may lose a message, so an order nobody began is sent again.
    ``turns`` and ``publish_turns``: how often gates and publishing may be lost before a person is asked.
    ``same_death``: how often attempts may end the same way. ``agent_tries``: attempts of one agent of a route that may
    end badly before the next agent takes over. ``outages``: how often something outside may be away;
    ``waits``: how often a provider may say later, an attempt be handed back or not be taken, before a person is asked.
    ``silence``: without a word of the agent, ``model_silence`` while it waits for a model; ``no_progress``: without
    anything new. ``same_calls``, ``same_errors``, ``alternations``: how many calls in a row with the same result, with
    the same error, and of two in turns are a loop (0: never; more than ``stall.CALLS`` are not remembered).
    ``between_rungs``: from one step of the ladder to the next; ``probe_within``: for the guard's answer
    to the first one; ``stop_within``: for its word, after the last one, that nothing of the attempt lives any more.
    ``status_every``: from one edit of an issue's status comment to the next.
    ``base_moves``: how often gates run again because the base branch moved under a finished change.
    """

    lost_after: float = 30.0
    claim_within: float = 300.0
    rewake_after: float = 10.0
    turns: int = 3
    publish_turns: int = 8
    base_moves: int = 2
    same_death: int = 3
    agent_tries: int = 2
    outages: int = 20
    waits: int = 100
    silence: float = 120.0
    model_silence: float = 600.0
    no_progress: float = 480.0
    same_calls: int = 4
    same_errors: int = 3
    alternations: int = 6
    between_rungs: float = 120.0
    probe_within: float = 10.0
    stop_within: float = 30.0
    backoff_first: float = 30.0
    backoff_most: float = 900.0
    status_every: float = 10.0
