"""People who write below the issue of one ticket at work."""

from __future__ import annotations

from dataclasses import replace

from fleet.adapters import keys
from fleet.adapters.acl import Role
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import connect
from fleet.core.codec import decode_event
from fleet.core.events import CommentHeard, Envelope, Source
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.forge import issues
from fleet.intake.comments import CommentIntake, Place
from fleet.intake.sweep import Sweep
from supervisor.fold import fold
from tests.intake.room import Room


class Notebook:
    """Implements ``Places`` in memory."""

    def __init__(self) -> None:
        self.known: dict[str, Place] = {}

    def get(self, repo: str) -> Place | None:
        return self.known.get(repo)

    def put(self, repo: str, place: Place) -> None:
        self.known[repo] = place


class Talk:
    """One ticket at work, and people who write below its issue."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.client = connect(room.world.server.ensure(), "people", room.world.server.password(Role.PEOPLE))
        self.people = RedisLedger(self.client)
        self.notebook = Notebook()
        self.number = room.issue()
        room.look()
        (self.first,) = room.views.values()
        self.keep(replace(self.first, state=State.RUNNING, reason=Reason.CLAIMED, attempt=1))
        self.restart()
        self.read = "0-0"

    def restart(self) -> None:
        """The intake is another process; what the old one held in memory is gone."""
        room = self.room
        self.comments = CommentIntake(self.people, room.bot, room.clock, self.notebook)
        self.sweep = Sweep(
            room.ledger, room.labels, room.bot, room.clock, lambda: room.watches, lambda repo: 60.0, self.comments
        )

    def keep(self, view: TicketView) -> None:
        # The forge has the real time, this room has its own: nothing here is about how old a ticket is.
        self.room.keep(replace(view, ticket=replace(view.ticket, accepted_at=1_600_000_000.0, agent="anthropic")))

    @property
    def view(self) -> TicketView:
        return self.room.views[self.first.id]

    def write(self, login: str, body: str, number: int = 0) -> int:
        with self.room._as(login) as (tx, repo, user):
            return int(issues.add_comment(tx, repo, issues.get(tx, repo, number or self.number), user, body)["id"])

    def edit(self, login: str, comment: int, body: str) -> None:
        """A second later, as far as the forge's clock can tell."""
        with self.room._as(login) as (tx, repo, user):
            issues.edit_comment(tx, repo, issues.get_comment(tx, repo, comment), body, user)
            tx.rows.run("UPDATE comments SET updated_at = '2099-01-01T00:00:00Z' WHERE id = ?", comment)

    def said(self) -> list[Envelope]:
        """What people said by comments since the last call; folded, as the supervisor would."""
        key = keys.inbound(self.first.id, Source.PEOPLE)
        entries: list[tuple[bytes, dict[bytes, bytes]]] = self.room.world.redis.xrange(key, f"({self.read}")  # type: ignore[assignment]
        new = []
        for at, fields in entries:
            self.read = at.decode()
            event = decode_event(fields[b"e"], Source.PEOPLE)
            new.append(event)
            self.room.keep(fold(self.view, event))
        return new

    def look(self) -> list[CommentHeard]:
        self.room.clock.advance(61.0)
        self.sweep.once()
        return [event.data for event in self.said() if isinstance(event.data, CommentHeard)]
