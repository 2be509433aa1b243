"""The store comes out of another history: that is no event of a ticket, and its log still adds up to its view (I17)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.adapters import keys
from fleet.core.codec import decode
from fleet.core.commands import Command, CommandKind
from fleet.core.events import ChangeReady, Envelope, Note
from fleet.core.ticket import Ticket, shard_of
from supervisor.fold import fold_all
from tests.supervisor.world import World
from tests.support.mutants import Mutant
from tests.support.players import CHANGE
from tests.support.tickets import ticket


def logged(world: World, wanted: Ticket) -> list[Envelope]:
    return [event for _, event in world.ledgers["people"].log(wanted.id)]


def another_history(world: World) -> None:
    """At work and in review: whoever speaks is asked to say again, and nothing else happens."""
    supervisor, wanted, other = world.make(), ticket(agent="anthropic"), ticket(2, repo="local/other")
    world.players.accept(other)
    world.until_quiet(supervisor)
    world.running(supervisor, wanted)
    world.players.attempt_says(wanted.id, 1, Note("reads the issue"))
    world.turns(supervisor)
    before = {one.id: (logged(world, one), world.seen(one)) for one in (wanted, other)}
    for one in (wanted, other):
        world.clients["admin"].set(keys.of(shard_of(one.id), "history"), "another")
    world.players.woken.clear()
    supervisor._drop_all()  # as after every outage
    world.turns(supervisor)
    for one in (wanted, other):
        log, view = before[one.id]
        assert logged(world, one) == log, "its record has no event of it"
        assert fold_all(log) == world.seen(one) == view
    told = [decode(raw, Command) for _, raw in world.ledgers["attempt"].commands(wanted.id, 1, "0", 1)]
    assert [(word.kind, word.seq) for word in told] == [(CommandKind.RESEND, before[wanted.id][1].seq + 1)]
    assert not world.ledgers["attempt"].commands(other.id, 1, "0", 1), "nobody speaks for it"
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.turns(supervisor)
    log = logged(world, wanted)
    assert fold_all(log) == world.seen(wanted) and any(isinstance(event.data, ChangeReady) for event in log)


@pytest.mark.invariant("I17")
def test_a_change_of_the_store_s_history_changes_no_ticket(world: World) -> None:
    another_history(world)


def test_a_change_that_asks_nobody_is_noticed(new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("supervisor.recovery:lost_a_second", "bool(known) and known != now", "False").install(monkeypatch)
    with pytest.raises(AssertionError):
        another_history(new_world())
