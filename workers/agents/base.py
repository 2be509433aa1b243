"""The port between an attempt and whatever does its thinking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.core.commands import Command
from fleet.core.environment import Prepared
from fleet.core.events import AttemptFailed, EventData
from fleet.core.ports import Clock
from fleet.core.sandbox import Limits, Sandbox
from fleet.core.ticket import Ticket


@dataclass(frozen=True, slots=True)
class Job:
    """What an agent is given. ``digest``: why the attempt before this one failed, empty for the first.

    ``read_only``: folders that its commands must see besides the workspace and the environment (the mirror).
    ``poll``: to be called at least every second; commands arrive through it, at ``tell`` and ``stop``.
    ``limits.seconds`` is what is left of the attempt's time; ``left`` tells it anew. ``gateway`` is the socket of the
    model gateway and ``key`` this attempt's placeholder. ``guide``: AGENTS.md of the base. ``resumed``: the working
    copy holds the change of the attempt before.
    """

    ticket: Ticket
    attempt: int
    digest: str
    workspace: Path
    read_only: tuple[Path, ...]
    prepared: Prepared
    sandbox: Sandbox
    limits: Limits
    clock: Clock
    poll: Callable[[], None]
    gateway: Path = Path("/nonexistent")
    key: str = ""
    guide: str = ""
    resumed: bool = False
    left: Callable[[], float] = lambda: 1800.0


class Agent(Protocol):
    """One agent of one attempt. All calls come from one thread."""

    def start(self, job: Job) -> None: ...

    def events(self) -> Iterator[EventData]:
        """Does the work and yields what happens; ends when the agent is done and its processes are dead."""
        ...

    def tell(self, command: Command) -> None:
        """A nudge, a steer or an interruption. An agent that cannot listen ignores it."""
        ...

    def stop(self) -> None:
        """Ends the work soon; ``events`` then ends, and ``outcome`` says cancelled."""
        ...

    def outcome(self) -> AttemptFailed | None:
        """None when the agent says it is done; whether that is true, only the gates decide."""
        ...
