"""kill -9 of a publisher at its named points, with the publisher's own Redis user and forge token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.acl import Role
from fleet.adapters.crash import POINTS
from fleet.core.events import Published, PublishFailed, PublishProblem
from fleet.core.view import TicketView
from tests.publisher.world import KEY, REPO, World
from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]
# What is there when a publisher dies at the point: (branch, pull request, evidence).
LEFT_BEHIND = {
    "publisher.begun": (False, False, False),
    "publisher.pushed": (True, False, False),
    "publisher.pr_created": (True, True, False),
    "publisher.before_told": (True, True, True),
}


def command(world: World, view: TicketView, task: str = "pull_request") -> list[str]:
    say = {
        "socket": str(world.server.socket),
        "password": world.server.password(Role.PUBLISHER),
        "base": world.forge.base,
        "url": world.url,
        "token": world.token,
        "artifacts": str(world.root / "artifacts"),
        "store": str(world.store.path),
        "key": KEY.decode(),
        "ticket": view.id,
        "task": task,
    }
    return [sys.executable, "-m", "tests.publisher.process", json.dumps(say)]


def run(world: World, view: TicketView, crash_at: str = "") -> int:
    env = {**os.environ, "FLEET_CRASH_AT": crash_at}
    done = subprocess.run(command(world, view), cwd=ROOT, env=env, timeout=60, capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


@pytest.mark.invariant("I4")
@pytest.mark.invariant("I6")
@pytest.mark.parametrize("point", LEFT_BEHIND)
def test_killed_at_a_point_and_ordered_again(world: World, point: str) -> None:
    view = world.gated()
    assert run(world, view, crash_at=point) == -signal.SIGKILL
    evidence = world.root / "artifacts" / "tickets" / view.id / "evidence.json"
    left = (bool(world.branch_at(view.ticket.branch)), bool(world.pulls()), evidence.exists())
    assert left == LEFT_BEHIND[point] and world.endings() == []
    run(world, view)  # the same order, delivered again: it was begun, so nobody may do it twice
    assert world.endings() == []
    after_loss = replace(view, turn=1)  # the supervisor noticed the silence
    world.keep(after_loss)
    assert run(world, after_loss) == 0
    (end,) = world.endings()
    assert isinstance(end, Published)
    assert world.pulls() == [(end.number, "open", view.head)]
    assert world.branch_at(view.ticket.branch) == view.head
    with world.forge.store.read() as tx:
        (row,) = tx.rows.all(
            "SELECT COUNT(*) AS n FROM comments c JOIN issues i ON i.id = c.issue_id WHERE i.number = ?", world.issue
        )
    assert row["n"] == 1 and evidence.exists()


def test_every_point_is_tried() -> None:
    assert set(LEFT_BEHIND) == {point for point in POINTS if point.startswith("publisher.")}


@pytest.mark.invariant("I3")
def test_stopped_before_its_push_and_let_go_after_its_successor(world: World) -> None:
    """SIGSTOP of publisher A while the forge holds its fetch; B publishes another H; A goes on and is refused."""
    old = world.gated(attempt=1)
    new = world.gated(attempt=2, head=world.commit(world.base, {"b.py": ""}))
    world.keep(old)
    env = {**os.environ, "FLEET_CRASH_AT": ""}
    frozen = subprocess.Popen(command(world, old), cwd=ROOT, env=env)
    try:
        assert eventually(world.told, timeout=30)
        os.kill(frozen.pid, signal.SIGSTOP)
        early = world.branch_at(old.ticket.branch)
        done = world.publisher().publish(new, 2, 1)
        assert isinstance(done, Published)
        os.kill(frozen.pid, signal.SIGCONT)
        assert frozen.wait(60) == 0
    finally:
        frozen.kill()
        frozen.wait()
    assert early in ("", old.head)
    assert world.branch_at(old.ticket.branch) == new.head
    assert len(world.pulls()) == 1
    # The ticket does not know its successor's pull request yet: it tells of that, and then how it ended itself.
    seen, end = world.endings()
    assert isinstance(seen, Published) and (seen.number, seen.head) == (done.number, new.head)
    assert isinstance(end, PublishFailed) and end.problem is PublishProblem.MOVED, end


def test_the_role_of_the_publisher_is_enough_and_no_more(world: World) -> None:
    """The runs above use the publisher's own Redis user; the forge's token cannot do what the port cannot ask."""
    view = world.gated()
    assert run(world, view) == 0
    (end,) = world.endings()
    assert isinstance(end, Published)
    asked = {verb.verb for verb in world.forge.seen if verb.login == "fleet-bot"}
    assert not asked & {"pull.merge", "review.create", "ref.update", "ref.delete", "hook.create"}
    assert world.bob.permission(REPO, "fleet-bot").may_write
