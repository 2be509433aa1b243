"""Publishing on a real forge with real git and a real ledger."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fleet.adapters import keys
from fleet.core.effects import Effect, EffectKind
from fleet.core.errors import InternalError
from fleet.core.events import Published, PublishFailed, PublishProblem
from fleet.core.states import Reason, State
from fleet.core.ticket import shard_of
from fleet.core.view import PullRequest
from fleet.publisher.plan import head_ref
from tests.publisher.world import REPO, WHO, World, problem, published

PULLS = f"/api/v3/repos/{REPO}/pulls"
READS = {"git.fetch", "pull.list", "issue.get", "status.combined", "comment.list", "user.me"}
WRITES = {"git.push", "pull.create", "issue.label", "status.create", "comment.create"}


def test_one_draft_pull_request_with_evidence(world: World) -> None:
    view = world.gated()
    world.tasks().pull_request(view.id, 1, 1)
    (end,) = world.endings()
    done = published(end)
    assert (done.head, done.base_sha, done.behind) == (view.head, world.base, 0)
    assert world.pulls() == [(done.number, "open", view.head)]
    pull = world.bob.find_pull_request(REPO, view.ticket.branch, "-")
    assert pull is not None and pull.draft and not pull.merged and pull.labels == ("fleet",)
    assert pull.author == "fleet-bot" and pull.base == "main" and pull.url == done.url
    assert "already red: 293 (unchanged)" in pull.body and "Closes #1." in pull.body
    assert "`t.py::test_a_is_clean`" in pull.body and "shown by `diff of a.py`" in pull.body
    raw = world.artifacts.get(f"tickets/{view.id}/evidence.json")
    assert raw is not None
    evidence = json.loads(raw)
    assert (evidence["v"], evidence["head"], evidence["base_sha"]) == (1, view.head, world.base)
    assert [gate["outcome"] for gate in evidence["gates"]] == ["passed", "already_red", "passed"]
    assert evidence["notes"] == [] and evidence["left_out"] == ["build/x.o"]
    assert world.told()[0].kind == "PublishStarted"


def test_done_twice_is_done_once(world: World) -> None:
    view = world.gated()
    publisher = world.publisher()
    first = published(publisher.publish(view, 1, 1))
    seen = len(world.forge.seen)
    assert published(publisher.publish(view, 1, 1)) == first
    assert len(world.pulls()) == 1
    again = {verb.verb for verb in world.forge.seen[seen:]}
    assert again == READS - {"user.me"}


@pytest.mark.invariant("I3")
def test_doubled_and_forged_wake_ups_do_nothing(world: World) -> None:
    view = world.gated()
    tasks = world.tasks()
    for _ in range(3):
        tasks.pull_request(view.id, 1, 1)
    tasks.pull_request(view.id, 2, 1)
    tasks.pull_request("demo-9-00000000", 1, 1)
    assert len(world.endings()) == 1 and len(world.pulls()) == 1


@pytest.mark.invariant("I3")
def test_a_frozen_publisher_cannot_push_over_its_successor(world: World) -> None:
    old = world.gated(attempt=1)
    new = world.gated(attempt=2, head=world.commit(world.base, {"b.py": ""}))
    done = published(world.publisher().publish(new, 2, 1))
    assert problem(world.publisher().publish(old, 1, 1)) is PublishProblem.MOVED
    assert world.branch_at(old.ticket.branch) == done.head == new.head
    assert world.pulls() == [(done.number, "open", new.head)]


@pytest.mark.invariant("I3")
def test_frozen_between_look_and_push(world: World) -> None:
    """A looks at the branch and freezes; B finishes; A pushes: the lease at the remote refuses it."""
    old = world.gated(attempt=1)
    new = world.gated(attempt=2, head=world.commit(world.base, {"b.py": ""}))
    frozen = world.publisher()
    look = frozen._remote_head
    looks: list[str] = []

    def look_then_freeze(work):  # type: ignore[no-untyped-def]
        there = look(work)
        if not looks:
            published(world.publisher().publish(new, 2, 1))
        looks.append(there)
        return there

    frozen._remote_head = look_then_freeze  # type: ignore[method-assign]
    assert problem(frozen.publish(old, 1, 1)) is PublishProblem.MOVED
    assert looks == ["", new.head] and world.branch_at(old.ticket.branch) == new.head


@pytest.mark.invariant("I3")
def test_mutant_without_a_lease_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the push unconditional, the frozen publisher would win: the check above can fail."""
    old = world.gated(attempt=1)
    new = world.gated(attempt=2, head=world.commit(world.base, {"b.py": ""}))
    published(world.publisher().publish(new, 2, 1))
    frozen = world.publisher()
    monkeypatch.setattr(frozen, "_our_heads", lambda work: frozenset({new.head}))
    frozen.publish(old, 1, 1)
    assert world.branch_at(old.ticket.branch) == old.head


def test_an_earlier_attempt_that_died_after_its_push_is_followed(world: World) -> None:
    first = world.gated(attempt=1)
    world.push(first.head, first.ticket.branch, token=world.token)
    second = world.gated(attempt=2, head=world.commit(world.base, {"b.py": ""}))
    done = published(world.publisher().publish(second, 2, 1))
    assert world.branch_at(second.ticket.branch) == second.head == done.head


def test_an_earlier_round_that_died_after_its_push_is_followed(world: World) -> None:
    """And it stays behind: when it goes on after all, the later round's commit is not its to replace."""
    first = world.gated(round=1)
    world.forge.faults[("before", "POST", PULLS)] = 502
    assert problem(world.publisher().publish(first, 1, 1)) is PublishProblem.FORGE_DOWN
    assert world.branch_at(first.ticket.branch) == first.head
    second = world.gated(round=2, head=world.commit(world.base, {"b.py": ""}))
    assert published(world.publisher().publish(second, 1, 2)).head == second.head
    world.store.update_ref(head_ref(first.id, 1), first.head)
    assert problem(world.publisher().publish(first, 1, 1)) is PublishProblem.MOVED
    assert world.branch_at(second.ticket.branch) == second.head


def test_a_pull_request_whose_publisher_died_is_found_with_the_next_status(world: World) -> None:
    view = world.gated()
    done = published(world.publisher().publish(view, 1, 1))
    rejected = replace(view, state=State.REJECTED, reason=Reason.GATES_RED, version=9)
    world.keep(rejected)
    world.order(Effect(EffectKind.STATUS, view.id, 1, 9))
    world.tasks().status(view.id, 1, 9)
    assert [event.number for event in world.endings() if isinstance(event, Published)] == [done.number]


@pytest.mark.invariant("I13")
def test_a_person_s_commits_on_the_branch_are_never_pushed_over(world: World) -> None:
    view = world.gated()
    theirs = world.commit(world.base, {"c.py": "mine\n"})
    world.push(theirs, view.ticket.branch)
    assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.MOVED
    assert world.branch_at(view.ticket.branch) == theirs and world.pulls() == []


def test_a_second_round_moves_the_same_pull_request(world: World) -> None:
    view = world.gated()
    first = published(world.publisher().publish(view, 1, 1))
    pull = PullRequest(first.number, first.url, first.head, first.base_sha)
    head = world.commit(view.head, {"b.py": "x = 2\n"}, "Round 2")
    again = replace(world.gated(attempt=2, head=head), pull_request=pull)
    second = published(world.publisher().publish(again, 2, 1))
    assert second.number == first.number and world.pulls() == [(first.number, "open", head)]
    found = world.bob.find_pull_request(REPO, view.ticket.branch, "-")
    assert (
        found is not None and head in found.body and found.body.startswith(f"<!-- fleet:ticket={view.id} attempt=2 -->")
    )


def test_what_people_wrote_around_the_evidence_stays(world: World) -> None:
    view = world.gated()
    first = published(world.publisher().publish(view, 1, 1))
    found = world.bob.find_pull_request(REPO, view.ticket.branch, "-")
    assert found is not None
    world.bob.edit_pull_request(REPO, first.number, found.body + "\n\nReviewed on Monday, see chat.")
    published(world.publisher().publish(replace(view, cost=replace(view.cost, usd=1.0, model_calls=3)), 1, 1))
    after = world.bob.find_pull_request(REPO, view.ticket.branch, "-")
    assert after is not None and after.body.endswith("\n\nReviewed on Monday, see chat.") and "$1.00" in after.body


def test_a_bug_of_ours_is_told_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    view = world.gated()

    def broken(ref: str) -> str:
        raise InternalError("git answered\nnonsense")

    monkeypatch.setattr(world.store, "rev", broken)
    with pytest.raises(InternalError):
        world.tasks().pull_request(view.id, 1, 1)
    (end,) = world.endings()
    assert isinstance(end, PublishFailed)
    assert end.detail == "The publisher ended in InternalError: git answered nonsense"


# --- base moves -----------------------------------------------------------------------------------------------------


def test_base_moved_elsewhere(world: World) -> None:
    view = world.gated()
    world.push(world.commit(world.base, {"README.md": "# Other\n"}), "main", world.base)
    done = published(world.publisher().publish(view, 1, 1))
    found = world.bob.find_pull_request(REPO, view.ticket.branch, "-")
    assert done.behind == 1 and found is not None and "1 commit behind it when published" in found.body


@pytest.mark.parametrize("files", [{"a.py": "import sys\n"}, {"pyproject.toml": "[tool.ruff]\n"}])
def test_base_moved_in_the_way(world: World, files: dict[str, str]) -> None:
    view = world.gated()
    world.push(world.commit(world.base, files), "main", world.base)
    assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.BASE_MOVED
    assert world.branch_at(view.ticket.branch) == ""
    tired = replace(view, failures=(("base_moved", 2),))
    done = published(world.publisher().publish(tired, 1, 1))
    found = world.bob.find_pull_request(REPO, view.ticket.branch, "-")
    assert done.behind == 1 and found is not None and "the gates ran again often enough" in found.body


# --- the forge says no ----------------------------------------------------------------------------------------------


def test_a_token_that_may_not_push(world: World) -> None:
    view = world.gated()
    reader = world.forge.store.issue_token("fleet-bot", ("contents:read", "pull_requests:read"), [REPO])
    answer = world.publisher(reader).publish(view, 1, 1)
    assert problem(answer) is PublishProblem.FORBIDDEN


def test_a_token_without_statuses_still_publishes_and_says_so(world: World) -> None:
    view = world.gated()
    token = world.forge.store.issue_token("fleet-bot", SCOPES_WITHOUT_STATUSES, [REPO])
    published(world.publisher(token).publish(view, 1, 1))
    raw = world.artifacts.get(f"tickets/{view.id}/evidence.json")
    assert raw is not None and any("token may not" in note for note in json.loads(raw)["notes"])


SCOPES_WITHOUT_STATUSES = ("contents:write", "issues:write", "pull_requests:write")


def test_workflow_files_without_the_permission(world: World) -> None:
    blob = world.store.call("hash-object", "-w", "--stdin", input=b"on: push\n").stdout.decode().strip()
    inner = world.store.call("mktree", input=f"100644 blob {blob}\tx.yml\n".encode()).stdout.decode().strip()
    outer = world.store.call("mktree", input=f"040000 tree {inner}\tworkflows\n".encode()).stdout.decode().strip()
    tree = world.store.call("mktree", input=f"040000 tree {outer}\t.github\n".encode()).stdout.decode().strip()
    view = world.gated(head=world.store.commit_tree(tree, [world.base], "w", WHO, WHO, 1))
    assert problem(world.publisher().publish(view, 1, 1)) is PublishProblem.FORBIDDEN
    assert world.pulls() == []


# --- I4, I13, I20 ---------------------------------------------------------------------------------------------------


@pytest.mark.invariant("I4")
@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("status", [502, 0])
def test_the_forge_fails_at_the_creation(world: World, stage: str, status: int) -> None:
    view = world.gated()
    world.forge.faults[(stage, "POST", f"/api/v3/repos/{REPO}/pulls")] = status
    answer = world.publisher().publish(view, 1, 1)
    if stage == "after":
        published(answer)
    else:
        assert problem(answer) is PublishProblem.FORGE_DOWN
        published(world.publisher().publish(view, 1, 1))
    assert len(world.pulls()) == 1


@pytest.mark.invariant("I4")
def test_mutant_that_does_not_look_again_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    view = world.gated()
    world.forge.faults[("after", "POST", f"/api/v3/repos/{REPO}/pulls")] = 502
    publisher = world.publisher()
    monkeypatch.setattr(publisher, "_find", lambda work: None)
    assert problem(publisher.publish(view, 1, 1)) is PublishProblem.FORGE_DOWN


@pytest.mark.invariant("I4")
def test_a_pull_request_with_the_marker_is_found_though_its_branch_has_another_name(world: World) -> None:
    view = world.gated()
    world.push(view.head, "fleet/renamed", token=world.token)
    ours = world.hub(world.token)
    body = f"<!-- fleet:ticket={view.id} attempt=1 -->\n"
    made = ours.create_pull_request(REPO, title="t", body=body, branch="fleet/renamed", base="main")
    assert published(world.publisher().publish(view, 1, 1)).number == made.number
    assert len(world.pulls()) == 1


@pytest.mark.invariant("I21")
def test_somebody_else_s_marker_is_not_ours(world: World) -> None:
    view = world.gated()
    world.push(world.commit(world.base, {"z.py": "z\n"}), "theirs")
    body = f"<!-- fleet:ticket={view.id} attempt=1 -->\n"
    theirs = world.bob.create_pull_request(REPO, title="t", body=body, branch="theirs", base="main")
    mark = f"<!-- fleet:status ticket={view.id} "
    world.bob.put_comment(REPO, world.issue, mark, f"{mark}state=AAAA hmac={'0' * 64} -->\nmine")
    done = published(world.publisher().publish(view, 1, 1))
    assert done.number != theirs.number and len(world.pulls()) == 2
    with world.forge.store.read() as tx:
        rows = tx.rows.all(
            "SELECT c.body, u.login FROM comments c JOIN issues i ON i.id = c.issue_id"
            " JOIN users u ON u.id = c.author_id WHERE i.number = ?",
            world.issue,
        )
    assert [row["login"] for row in rows] == ["bob", "fleet-bot"] and rows[0]["body"].endswith("mine")


@pytest.mark.invariant("I13")
def test_no_other_verb_is_ever_used(world: World) -> None:
    world.forge.seen.clear()
    world.tasks().pull_request(world.gated().id, 1, 1)
    assert {verb.verb for verb in world.forge.seen if verb.login == "fleet-bot"} == READS | WRITES
    assert {verb.login for verb in world.forge.seen if verb.status < 400} == {"fleet-bot"}


@pytest.mark.invariant("I13")
def test_the_port_has_no_forbidden_verb() -> None:
    from fleet.adapters.forge_client import HubClient
    from fleet.core.forge import ForgeClient

    for kind in (ForgeClient, HubClient):
        names = [name.lower() for name in dir(kind)]
        assert not [n for n in names if any(bad in n for bad in ("merge", "approve", "review", "ready", "delete"))]


@pytest.mark.invariant("I20")
def test_withdraw_closes_the_fleet_s_own_pull_request_once(world: World) -> None:
    from fleet.core.effects import Effect, EffectKind
    from fleet.core.events import Withdrawn

    view = world.gated()
    done = published(world.publisher().publish(view, 1, 1))
    gone = replace(view, withdraw=done.number, cancel="bob: changed my mind @everyone")
    world.keep(gone)
    world.order(Effect(EffectKind.WITHDRAW, view.id, 1, 0, done.number, gone.cancel))
    for _ in range(2):
        world.tasks().withdraw(view.id, 1, 0)
    assert [number for number, state, _ in world.pulls() if state == "closed"] == [done.number]
    assert [event.data for event in world.told() if isinstance(event.data, Withdrawn)] == [Withdrawn(done.number)] * 2
    with world.forge.store.read() as tx:
        rows = tx.rows.all(
            "SELECT c.body FROM comments c JOIN issues i ON i.id = c.issue_id WHERE i.number = ?", done.number
        )
    assert len(rows) == 1 and "`bob: changed my mind @everyone`" in rows[0]["body"]


@pytest.mark.invariant("I20")
def test_withdraw_leaves_somebody_else_s_alone(world: World) -> None:
    view = world.gated()
    world.push(view.head, view.ticket.branch)
    theirs = world.bob.create_pull_request(REPO, title="t", body="", branch=view.ticket.branch, base="main")
    assert not world.publisher().withdraw(view, theirs.number, "cancelled")
    assert world.pulls() == [(theirs.number, "open", view.head)]


@pytest.mark.invariant("I4")
def test_what_a_lost_publisher_left_is_closed_and_the_ticket_s_own_is_not(world: World) -> None:
    """A person closed the ticket's pull request, and may open it again: a look for another one leaves it alone."""
    view = world.gated()
    done = published(world.publisher().publish(view, 1, 1))
    own = PullRequest(done.number, done.url, done.head, done.base_sha)
    closed = replace(view, state=State.CLOSED, reason=Reason.PR_CLOSED, pull_request=own)
    assert not world.publisher().withdraw(closed, 0, "the ticket already has another one")
    assert world.publisher().withdraw(replace(closed, pull_request=replace(own, number=99)), 0, "another one")
    assert [state for _, state, _ in world.pulls()] == ["closed"]


@pytest.mark.invariant("I20")
def test_nothing_is_begun_on_a_cancelled_ticket(world: World) -> None:
    view = world.gated()
    world.redis.sadd(keys.of(shard_of(view.id), "cancelled"), view.id)
    world.tasks().pull_request(view.id, 1, 1)
    assert world.told() == [] and world.pulls() == []
