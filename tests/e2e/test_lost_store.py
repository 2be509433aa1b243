"""The store's folder is removed under a running fleet: it starts another one, and the forge gives the tickets back."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters.acl import Role
from fleet.local.client import Client
from fleet.local.home import Home
from tests.e2e.kit import Fleet, fleet_home, repository
from tests.support.wait import eventually

# Long enough to be at work when the store goes; what it does is done anew by the next attempt.
SLOW = "command:sh -c 'sleep 12; ruff check --fix --exit-zero --select F401 .'"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_home() as one:
        yield one


def shown(fleet: Fleet, ticket: str) -> dict[str, Any]:
    done = fleet("show", ticket, "--json")
    if done.code != 0:
        return {}
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return found


def labels(fleet: Fleet, repo: str, number: int) -> set[str]:
    return {label["name"] for label in fleet.api(f"/repos/{repo}/issues/{number}")["labels"]}


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I19")
def test_a_fleet_that_loses_its_store_recovers_by_itself(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "small")
    finished = fleet.ticket(repo)
    assert finished.code == 0, finished.err
    begun = fleet("run", "--detach", "--json", "--repo", str(repo), "--title", "Again", "--agent", SLOW)
    accepted = begun.rows[-1]
    ticket, (name, _, number) = accepted["ticket"], str(accepted["issue"]).partition("#")
    # The comment may still say that it waits: an attempt that began since counts all the same.
    assert eventually(lambda: labels(fleet, name, int(number)) & {"fleet:queued", "fleet:working"} != set(), 60.0, 0.2)
    assert eventually(lambda: shown(fleet, ticket).get("state") == "running", 60.0, 0.2)
    assert shown(fleet, ticket)["attempts"] == 1

    shutil.rmtree(fleet.home / "redis")

    assert eventually(lambda: shown(fleet, ticket).get("state") == "in_review", 90.0, 0.5), shown(fleet, ticket)
    view = shown(fleet, ticket)
    # The attempt under way counts, and its successor did the work; unless it was done before anybody missed the folder.
    assert view["attempts"] in (1, 2)
    pulls = [pull for pull in fleet.pulls(name) if pull["head"]["ref"].startswith(f"fleet/{number}-")]
    assert len(pulls) == 1 and pulls[0]["number"] == view["pull_request"]["number"]
    rows = fleet("ls", "--all", "--json").rows
    assert {row["state"] for row in rows} == {"in_review"} and len(rows) == 2, "the finished one is watched again, too"
    assert len(fleet.pulls(name)) == 2
    status = fleet("status")
    assert "RECOVERED 2 tickets at" in status.out


@pytest.mark.invariant("I1")
def test_a_ticket_is_not_lost_that_nobody_had_looked_at(fleet: Fleet, tmp_path: Path) -> None:
    """Said to be accepted, and the store is emptied before any process of the fleet heard of it."""
    repo = repository(tmp_path / "early")
    assert fleet("up").code == 0
    asleep = [pid for name, pid in fleet.services().items() if name in ("supervisor", "publisher")]
    assert len(asleep) == 2
    for pid in asleep:
        os.kill(pid, signal.SIGSTOP)
    try:
        accepted = fleet("run", "--detach", "--json", "--repo", str(repo), "--title", "Early", "--agent", SLOW)
        assert accepted.code == 0, accepted.err
        admin = Client(Home(fleet.env), lambda _: None).wiring.client(Role.ADMIN)
        admin.execute_command("FLUSHALL")
        admin.close()
    finally:
        for pid in asleep:
            os.kill(pid, signal.SIGCONT)
    ticket = accepted.rows[-1]["ticket"]
    assert eventually(lambda: shown(fleet, ticket).get("state") == "in_review", 90.0, 0.5), shown(fleet, ticket)
    name, number = _issue(accepted.rows[-1]["issue"])
    assert len(fleet.pulls(name)) == 1
    assert eventually(lambda: "fleet:review" in labels(fleet, name, number), 30.0, 0.2), labels(fleet, name, number)


def _issue(name: str) -> tuple[str, int]:
    repo, _, number = name.partition("#")
    return repo, int(number)


def emptied(fleet: Fleet) -> None:
    admin = Client(Home(fleet.env), lambda _: None).wiring.client(Role.ADMIN)
    admin.execute_command("FLUSHALL")
    admin.close()


@pytest.mark.invariant("I1")
def test_a_word_that_was_taken_is_not_forgotten(fleet: Fleet, tmp_path: Path) -> None:
    """Tried again, paused, cancelled: the store is emptied the moment after the command said yes."""
    repo = repository(tmp_path / "word")
    ended = fleet("run", "--json", "--repo", str(repo), "--title", "Word", "--agent", "command:false")
    ticket = ended.result["ticket"]
    assert shown(fleet, ticket)["state"] == "rejected"

    again = fleet("retry", ticket, "--json")
    assert again.rows[-1]["at_forge"], again
    emptied(fleet)
    assert eventually(lambda: shown(fleet, ticket).get("attempts", 0) > 1, 60.0, 0.2), "the retry was forgotten"
    assert eventually(lambda: shown(fleet, ticket).get("state") == "rejected", 60.0, 0.2)

    begun = fleet("run", "--detach", "--json", "--repo", str(repo), "--title", "Long", "--agent", "command:sleep 60")
    ticket, (name, number) = begun.rows[-1]["ticket"], _issue(begun.rows[-1]["issue"])
    assert eventually(lambda: shown(fleet, ticket).get("state") == "running", 60.0, 0.2)
    assert fleet("pause", ticket, "--json").rows[-1]["at_forge"]
    emptied(fleet)
    assert eventually(lambda: shown(fleet, ticket).get("reason") == "paused", 60.0, 0.2), "the pause was forgotten"
    assert fleet("pause", "--all").code == 0
    emptied(fleet)
    assert eventually(lambda: fleet("status", "--json").rows[-1]["paused"], 60.0, 0.2), "the whole fleet works again"
    assert eventually(lambda: shown(fleet, ticket).get("reason") == "paused", 60.0, 0.2)
    assert fleet("resume", "--all").code == 0

    publisher = fleet.services()["publisher"]
    os.kill(publisher, signal.SIGSTOP)
    try:
        unheard = fleet("resume", ticket, "--json")
    finally:
        os.kill(publisher, signal.SIGCONT)
    assert unheard.code == 0 and unheard.rows[-1]["at_forge"] is False
    assert "does not show it yet" in unheard.err, "it is taken, and nobody may believe that it cannot be lost"

    assert fleet("cancel", ticket, "--json").rows[-1]["at_forge"]
    # Nobody looks for a lost ticket below this label.
    assert labels(fleet, name, number) == {"fleet", "fleet:cancelled"}
