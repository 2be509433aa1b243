"""A built-in agent with everything real around it: sandbox, gateway, store, and the scripted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.sandbox.facts import detect
from fleet.core.commands import Command, CommandKind
from fleet.core.environment import Prepared
from fleet.core.events import AttemptFailed, EventData
from fleet.core.sandbox import Limits, Tier
from fleet.core.view import TicketView
from tests.gateway.conftest import Place, place, run, store
from tests.sandbox.conftest import Ground, give, new_ground, open_box
from workers.agents import Job, backend_for, session

T = TypeVar("T")
__all__ = ["place", "store"]
API = ("anthropic", "openai", "openai-chat")


@dataclass
class Desk:
    """One job; ``work`` plays a script with it."""

    place: Place
    ground: Ground
    heard: list[Command] = field(default_factory=list)
    events: list[EventData] = field(default_factory=list)
    on_event: Callable[[EventData], None] = lambda event: None
    guide: str = ""
    digest: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    socket: Path | None = None

    def write(self, name: str, text: str) -> None:
        path = self.ground.workspace / name
        path.write_text(text)
        give(path)

    def read(self, name: str) -> str:
        return (self.ground.workspace / name).read_text()

    def gateway(self) -> Path:
        from fleet.gateway.app import Gateway

        path = self.ground.area / "gateway.sock"
        run(Gateway(self.place.books(), self.place.patience).app(), path, self.place.served)
        return path

    def work(self, script: str, api: str = "anthropic") -> AttemptFailed | None:
        """Plays ``script`` to its end; answers the outcome."""
        view: TicketView = self.place.at_work(**self.limits)
        file = self.ground.area / "script.toml"
        file.write_text(script)
        agent = backend_for(f"rehearsal:{file}@{api}")

        def poll() -> None:
            while self.heard:
                command = self.heard.pop(0)
                if command.kind in (CommandKind.CANCEL, CommandKind.CHECKPOINT):
                    agent.stop()
                else:
                    agent.tell(command)

        agent.start(self.job(view, poll))
        for event in agent.events():
            self.events.append(event)
            self.on_event(event)
        return agent.outcome()

    def job(self, view: TicketView, poll: Callable[[], None]) -> Job:
        program, folders = self.ground.python()
        box = open_box(Tier.LANDLOCK if detect().landlock_abi >= 6 else Tier.BUBBLEWRAP, self.ground)
        return Job(
            ticket=view.ticket,
            attempt=view.attempt,
            digest=self.digest,
            workspace=self.ground.workspace,
            read_only=(),
            prepared=Prepared("none", folders, (), (), Path(program), "none"),
            sandbox=box.sandbox,
            limits=Limits(seconds=60.0, processes=200),
            clock=SystemClock(),
            poll=poll,
            gateway=self.socket or self.gateway(),
            key=self.place.key(view),
            guide=self.guide,
            left=lambda: 60.0,
        )

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def desk(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(session, "_PAUSE_S", 0.05)
    with new_ground() as ground:
        made = Desk(place, ground)
        made.write("core.py", "def add(a, b):\n    return a - b\n")
        yield made
