"""A real forge, a real ledger and the real intake; the test plays the supervisor by absorbing what intake said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fleet.adapters import keys
from fleet.adapters.acl import Role
from fleet.adapters.ledger import RedisLedger
from fleet.adapters.redis_client import connect
from fleet.core.codec import decode_event, encode
from fleet.core.events import CancelRequested, Envelope, PullRequestClosed, Source, TicketAccepted
from fleet.core.forge import LabelEvent
from fleet.core.states import Reason, State
from fleet.core.ticket import Ticket, TicketLimits, all_shards, shard_of
from fleet.core.view import PullRequest, TicketView
from fleet.forge import issues
from fleet.forge.store import Repo, Tx
from fleet.intake.labels import LabelIntake
from fleet.intake.sweep import Sweep
from fleet.intake.watched import Watched
from tests.publisher.world import REPO, World
from tests.support.clock import VirtualClock

WATCHED = Watched(REPO, "fleet", "command:true")
PEOPLE = ("contents:write", "issues:write", "pull_requests:write")


class Room:
    """``stranger`` may read and, as a triager could, label; ``bob`` may write."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = VirtualClock()
        server = world.server
        client = connect(server.ensure(), "intake", server.password(Role.INTAKE))
        self.ledger = RedisLedger(client)
        self.bot = world.hub(world.token)
        self.watches: tuple[Watched, ...] = (WATCHED,)
        self.labels = LabelIntake(self.ledger, self.bot, self.clock, lambda repo, branch: TicketLimits())
        self.sweep = Sweep(self.ledger, self.labels, self.bot, self.clock, lambda: self.watches, lambda repo: 60.0)
        self.views: dict[str, TicketView] = {}
        self._read: dict[str, str] = {}

    # --- people at the forge ---------------------------------------------------------------------------------------
    def issue(self, title: str = "Mend it", body: str = "Please.", label: bool = True) -> int:
        return self.world.bob.create_issue(REPO, title, body, ("fleet",) if label else ()).number

    def label(self, number: int) -> LabelEvent:
        """Bob takes the label off and puts it on again: a new act."""
        self.unlabel(number, "fleet")
        self.world.bob.add_labels(REPO, number, ("fleet",))
        act = self.bot.last_labelled(REPO, number, "fleet")
        assert act is not None
        return act

    def unlabel(self, number: int, *names: str) -> None:
        there = {label.lower() for label in self.bot.issue(REPO, number).labels}
        with self._as("bob") as (tx, repo, bob):
            for name in there & {name.lower() for name in names}:
                issues.remove_label(tx, repo, issues.get(tx, repo, number), name, bob)

    def label_by(self, login: str, number: int) -> None:
        with self._as(login) as (tx, repo, user):
            issues.add_labels(tx, repo, issues.get(tx, repo, number), ["fleet"], user)

    def close(self, number: int) -> None:
        with self._as("bob") as (tx, repo, bob):
            issues.set_state(tx, repo, issues.get(tx, repo, number), "closed", None, bob)

    def merge(self, pull: int, text: str) -> None:
        """As GitHub does it: the pull request is merged first, then what it closes is closed."""
        with self._as("bob") as (tx, repo, bob):
            row = issues.get(tx, repo, pull)
            tx.rows.run("UPDATE pulls SET draft = 0, merged_at = ?, open = 0 WHERE issue_id = ?", tx.now, row["id"])
            tx.rows.run("UPDATE issues SET state = 'closed' WHERE id = ?", row["id"])
            issues.close_by_text(tx, repo, text, bob)

    @contextmanager
    def _as(self, login: str) -> Iterator[tuple[Tx, Repo, int]]:
        """What a person does on the forge's pages."""
        with self.world.forge.store.write() as tx:
            repo, user = tx.repo(*REPO.split("/")), tx.user(login)
            assert repo is not None and user is not None
            yield tx, repo, int(user["id"])

    # --- the rest of the fleet -------------------------------------------------------------------------------------
    def said(self) -> list[Envelope]:
        """What intake said since the last call, in order per shard."""
        new: list[Envelope] = []
        for shard in all_shards():
            key = keys.of(shard, f"in:{Source.INTAKE.value}")
            entries: Any = self.world.redis.xrange(key, f"({self._read.get(key, '0-0')}")
            for at, fields in entries:
                self._read[key] = at.decode()
                new.append(decode_event(fields[b"e"], Source.INTAKE))
        return new

    def absorb(self) -> list[Envelope]:
        """As the supervisor would: what was said becomes views."""
        new = self.said()
        for event in new:
            known = self.views.get(event.ticket)
            if isinstance(event.data, TicketAccepted) and known is None:
                self.keep(TicketView(event.data.ticket, State.QUEUED, Reason.ACCEPTED, 0.0))
            elif isinstance(event.data, CancelRequested) and known is not None:
                self.keep(replace(known, state=State.CANCELLED))
            elif isinstance(event.data, PullRequestClosed) and known is not None:
                self.keep(replace(known, state=State.MERGED if event.data.merged else State.CLOSED))
        return new

    def keep(self, view: TicketView) -> None:
        self.views[view.id] = view
        self.world.redis.hset(keys.of(shard_of(view.id), "view"), view.id, encode(view))

    def end(self, ticket: str, state: State = State.REJECTED) -> None:
        self.keep(replace(self.views[ticket], state=state))

    def look(self) -> list[Envelope]:
        """The next regular look at everything, and what came of it."""
        self.clock.advance(61.0)
        self.sweep.once()
        return self.absorb()

    def accepted(self) -> list[Ticket]:
        return [view.ticket for view in self.views.values()]

    def in_review(self, view: TicketView, number: int) -> TicketView:
        pull = PullRequest(number, "url", "h", "b")
        self.keep(replace(view, state=State.IN_REVIEW, pull_request=pull))
        return self.views[view.id]
