"""A publisher stands still between looking and writing: the newest state is what stays in the comment (I8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.adapters import keys
from fleet.adapters.forge_client import HubClient
from fleet.core.effects import Effect, EffectKind
from fleet.core.sealing import SealedState, unseal
from fleet.core.states import Reason, State
from fleet.core.view import TicketView
from fleet.intake.rebuild import about_to_be_told
from fleet.publisher.service import Publisher, Remote
from fleet.publisher.tasks import PublisherTasks
from tests.publisher.world import KEY, REPO, World
from tests.support.mutants import Mutant


class StandsStill(HubClient):
    """Before its first comment, once: what happens while its process is frozen."""

    meanwhile: Callable[[], None] | None = None

    def put_comment(self, repo: str, number: int, marker: str, body: str) -> str:
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()
        return super().put_comment(repo, number, marker, body)


def frozen(world: World, meanwhile: Callable[[], None]) -> Publisher:
    forge = StandsStill(f"{world.forge.base}/api/v3", world.token, world.clock, retries=1)
    forge.meanwhile = meanwhile
    remote = Remote(world.url, world.auth())
    return Publisher(forge, world.ledger, world.artifacts, world.clock, lambda _: world.store, lambda _: remote, KEY)


def goes_on(world: World, view: TicketView) -> Callable[[], None]:
    """The ticket gets to ``view``, and another publisher says so."""

    def happens() -> None:
        world.keep(view)
        world.order(Effect(EffectKind.STATUS, view.id, view.attempt, view.version))
        world.tasks("another").status(view.id, view.attempt, view.version)
        assert said(world).attempts == view.attempt

    return happens


def said(world: World) -> SealedState:
    (comment,) = world.bob.comments_on(REPO, world.issue, "<!-- fleet:status")
    state = unseal(comment.body, f"{REPO}#{world.issue}", KEY)
    assert state is not None
    return state


def an_old_status(world: World) -> None:
    old = TicketView(world.ticket(), State.RUNNING, Reason.CLAIMED, since=0.0, version=3, attempt=1)
    world.keep(old)
    world.order(Effect(EffectKind.STATUS, old.id, 1, 3))
    late = frozen(world, goes_on(world, replace(old, version=9, attempt=2)))
    PublisherTasks(world.ledger, late, world.clock, "host").status(old.id, 1, 3)
    assert said(world).attempts == 2, "an old state was left over a newer one"


def an_old_publication(world: World) -> None:
    old = world.gated()
    late = frozen(world, goes_on(world, replace(old, state=State.RUNNING, reason=Reason.CLAIMED, version=9, attempt=2)))
    late.publish(old, 1, 1)
    assert (said(world).state, said(world).attempts) == ("running", 2), "an old state was left over a newer one"


class ForgetsMeanwhile(HubClient):
    """Before a state is sealed: the ledger is lost, and another one takes its place."""

    forget: Callable[[], None]

    def login(self, repo: str) -> str:
        self.forget()
        return super().login(repo)


def a_status_of_a_lost_ledger(world: World) -> None:
    """What a lost ledger knew must not look like what a command is about to tell the new one: it is taken up again."""
    view = TicketView(world.ticket(), State.QUEUED, Reason.ACCEPTED, since=0.0, version=3)
    world.keep(view)
    world.order(Effect(EffectKind.STATUS, view.id, 0, 3))

    def forget() -> None:
        world.redis.flushall()
        world.redis.hset(keys.META, "incarnation", "two")

    forge = ForgetsMeanwhile(f"{world.forge.base}/api/v3", world.token, world.clock, retries=1)
    forge.forget = forget
    remote = Remote(world.url, world.auth())
    late = Publisher(forge, world.ledger, world.artifacts, world.clock, lambda _: world.store, lambda _: remote, KEY)
    PublisherTasks(world.ledger, late, world.clock, "host").status(view.id, 0, 3)
    assert not about_to_be_told(said(world), "two"), "nobody looks for it any more"


MUTANTS = (
    Mutant(
        "fleet.publisher.service:Publisher._sealed",
        "if self._ledger.view(view.id) is not None",
        "if True",
        a_status_of_a_lost_ledger,
    ),
    Mutant("fleet.publisher.tasks:PublisherTasks._show", "if after is None or", "if True or", an_old_status),
    Mutant("fleet.publisher.service:Publisher._answer", "if now is not None and", "if False and", an_old_publication),
)


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("scenario", [an_old_status, an_old_publication, a_status_of_a_lost_ledger])
def test_the_newest_state_is_written_last(world: World, scenario: Callable[[World], None]) -> None:
    scenario(world)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.where.partition(":")[2])
def test_without_the_look_the_old_state_stays(world: World, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.install(monkeypatch)
    assert mutant.scenario is not None
    with pytest.raises(AssertionError, match=r"was left over|nobody looks for it"):
        mutant.scenario(world)
