"""An agent whose model is loaded when it starts: asking whether a name is an agent must stay cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fleet.core.commands import Command
from fleet.core.errors import InternalError
from fleet.core.events import AttemptFailed, EventData
from workers.agents.base import Agent, Job

if TYPE_CHECKING:
    from workers.agents.model import Model


class LateAgent:
    """Implements ``workers.agents.base.Agent`` by a ModelAgent that is made at ``start``."""

    def __init__(self, make: Callable[[], Model]) -> None:
        self._make = make
        self._agent: Agent | None = None

    def start(self, job: Job) -> None:
        from workers.agents.session import ModelAgent  # noqa: PLC0415

        self._agent = ModelAgent(self._make())
        self._agent.start(job)

    def events(self) -> Iterator[EventData]:
        return self._made().events()

    def tell(self, command: Command) -> None:
        self._made().tell(command)

    def stop(self) -> None:
        self._made().stop()

    def outcome(self) -> AttemptFailed | None:
        return self._made().outcome()

    def _made(self) -> Agent:
        if self._agent is None:
            raise InternalError("The agent was not started.")
        return self._agent
