"""The agents: one file per backend, chosen by name."""

from __future__ import annotations

from collections.abc import Callable

from fleet.core.errors import UsageError
from workers.agents.base import Agent, Job
from workers.agents.command import CommandAgent, parse

__all__ = ["BACKENDS", "Agent", "Job", "backend_for"]

# What stands before the colon → what makes an agent of what stands after it.
BACKENDS: dict[str, Callable[[str], Agent]] = {
    "command": lambda words: CommandAgent(parse(words)),
}


def backend_for(agent: str) -> Agent:
    """The agent that ``agent`` names, e.g. ``command:ruff check --fix .``.

    Raises UsageError for an unknown name (listing the known ones) and for words that the backend refuses.
    """
    name, _, words = agent.partition(":")
    make = BACKENDS.get(name.strip())
    if make is None:
        known = ", ".join(f"{name}:…" for name in sorted(BACKENDS))
        raise UsageError(f"There is no agent called {name.strip()[:60]!r}.", f"Agents are {known}")
    return make(words.strip())
