"""The command of the README and what people do around it, on real processes."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kit import UNUSED, Done, Fleet, fleet_home, repository, snapshot, status_of
from tests.realdata.projects import commit_all, git
from tests.support.wait import eventually

SHA = re.compile(r"[0-9a-f]{40}")


def ours(name: str) -> bool:
    """What a run may add to a person's repository: the new branch, its reflog, and new objects."""
    parts = name.split("/")
    return parts[:2] == [".git", "objects"] or name.startswith((".git/refs/heads/fleet", ".git/logs/refs/heads/fleet"))


def check_contract(row: dict[str, Any]) -> None:
    """Exactly the last line that scripts were promised; further keys may stand beside them."""
    assert row["v"] == 1 and row["type"] == "result"
    assert isinstance(row["ticket"], str) and isinstance(row["state"], str) and isinstance(row["attempts"], int)
    assert set(row["cost"]) == {"usd", "input_tokens", "output_tokens"}
    assert all(isinstance(value, int | float) for value in row["cost"].values())
    for gate in row["gates"]:
        assert set(gate) == {"name", "kind", "outcome", "seconds"} and isinstance(gate["seconds"], int | float)
    pull = row["pull_request"]
    if pull is not None:
        assert isinstance(pull["url"], str) and isinstance(pull["number"], int)
        assert SHA.fullmatch(pull["head_sha"]) and SHA.fullmatch(pull["base_sha"])


@pytest.fixture(scope="module")
def first(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done, Done]:
    """The first ticket of a home: (repository, the command, what it changed in the repository)."""
    repo = repository(tmp_path_factory.mktemp("first") / "first")
    git(repo, "config", "core.hooksPath", str(repo.parent / "hooks"))
    (repo / "notes.txt").write_text("not committed\n")
    before = snapshot(repo, ours)
    done = fleet.ticket(repo)
    after = snapshot(repo, ours)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return repo, done, Done(len(changed), " ".join(sorted(changed)), "")


def test_a_ticket_becomes_a_gated_pull_request(fleet: Fleet, first: tuple[Path, Done, Done]) -> None:
    _, done, _ = first
    assert done.code == 0, done.err + done.out[-2000:]
    row = done.result
    check_contract(row)
    assert row["state"] == "in_review" and row["attempts"] == 1
    outcomes = {gate["name"]: gate["outcome"] for gate in row["gates"]}
    assert outcomes["tests"] == "passed" and outcomes["policy"] == "passed" and outcomes["lint"] == "fixed"
    assert all(line["v"] == 1 and line["type"] in ("event", "result") for line in done.rows)
    (pull,) = fleet.pulls("local/first")
    assert pull["draft"] and pull["state"] == "open" and pull["number"] == row["pull_request"]["number"]
    assert (
        pull["head"]["sha"] == row["pull_request"]["head_sha"]
        and pull["base"]["sha"] == row["pull_request"]["base_sha"]
    )


def test_the_result_is_a_new_branch_and_nothing_else_changed(first: tuple[Path, Done, Done]) -> None:
    repo, done, changed = first
    pull = done.result["pull_request"]
    assert git(repo, "rev-parse", pull["local_ref"]).strip() == pull["head_sha"]
    assert git(repo, "diff", "--stat", "main", pull["local_ref"]).strip().endswith("2 deletions(-)")
    assert git(repo, "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/fleet/1-remove-unused-imports",
        "refs/heads/main",
    ]
    assert changed.code == 0, changed.out


def test_the_printed_pages_answer_with_the_token_alone(fleet: Fleet, first: tuple[Path, Done, Done]) -> None:
    _, done, _ = first
    url = done.result["pull_request"]["url"]
    token = fleet.tokens()["person"]
    code, page = status_of(url, token)
    assert code == 200 and "2 fixed, none left" in page and done.result["pull_request"]["head_sha"] in page, page
    code, diff = status_of(f"{url}/files", token)
    assert code == 200 and "import os" in diff and "small/core.py" in diff
    assert status_of(url)[0] == 401 and status_of(url, "wrong")[0] == 401
    link = fleet("open", "--no-browser", done.result["ticket"]).out.strip()
    assert status_of(link)[0] == 200


def test_a_second_run_finds_the_fleet_running(fleet: Fleet, first: tuple[Path, Done, Done], repo: Path) -> None:
    host = fleet.services()["host"]
    done = fleet.ticket(repo)
    assert done.code == 0 and fleet.services()["host"] == host
    assert "starting the fleet" not in done.err


def test_people_read_what_happens(fleet: Fleet, repo: Path) -> None:
    done = fleet("run", "--repo", str(repo), "--title", "Remove unused imports", "--agent", UNUSED)
    assert done.code == 0, done.err
    assert "accepted local/people_read_what_happens#1" in done.out and "gate tests: passed" in done.out
    link = next(line.split()[-1] for line in done.out.splitlines() if line.startswith("pull request"))
    assert status_of(link)[0] == 200
    shown = next(line for line in done.out.splitlines() if "git show" in line).split("git show ")[1]
    assert "-import os" in git(repo, "show", shown)


def test_the_issue_comes_from_a_file_or_a_pipe(fleet: Fleet, repo: Path, tmp_path: Path) -> None:
    text = "Remove unused imports\n\n## Acceptance\n- `import os` is gone\n- tests pass\n"
    (tmp_path / "issue.md").write_text(text)
    words = ("run", "--json", "--detach", "--repo", str(repo), "--agent", UNUSED)
    row = fleet(*words, "--issue", str(tmp_path / "issue.md")).rows[-1]
    issue = fleet.api(f"/repos/{row['issue'].replace('#', '/issues/')}")
    assert issue["title"] == "Remove unused imports" and "`import os` is gone" in issue["body"]
    done = fleet(*words, "--issue", "-", input=text)
    assert done.code == 0 and done.rows[-1]["ticket"] != row["ticket"]
    for ticket in (row["ticket"], done.rows[-1]["ticket"]):
        assert fleet("show", "-f", "--json", ticket).result["state"] == "in_review"


def test_detach_list_show_cancel(fleet: Fleet, repo: Path) -> None:
    words = ("run", "--json", "--detach", "--repo", str(repo), "--title", "Wait")
    ticket = fleet(*words, "--agent", "command:sleep 300").rows[-1]["ticket"]
    assert eventually(lambda: show(fleet, ticket)["state"] == "running", 30.0, 0.5)
    listed = [row for row in fleet("ls", "--json").rows if row["ticket"] == ticket]
    assert listed and listed[0]["title"] == "Wait"
    assert ticket in fleet("ls").out
    assert fleet("show", ticket).out.startswith(f"{ticket} is running")
    assert fleet("status", "--json").rows[0]["tickets"]["running"] == 1
    done = fleet("cancel", ticket, "--why", "changed my mind")
    assert done.code == 0 and show(fleet, ticket)["state"] == "cancelled"
    again = fleet("cancel", ticket)
    assert again.code == 2 and "has already ended" in again.sentence
    assert fleet.pulls("local/detach_list_show_cancel") == []


def show(fleet: Fleet, ticket: str) -> dict[str, Any]:
    return fleet("show", "--json", ticket).result


def test_cancel_after_publication_closes_the_pull_request(fleet: Fleet, repo: Path) -> None:
    ticket = fleet.ticket(repo).result["ticket"]
    assert fleet("cancel", ticket).code == 0
    name = "local/" + repo.name
    assert eventually(lambda: [pull["state"] for pull in fleet.pulls(name)] == ["closed"], 20.0, 0.2)


def test_a_rejected_ticket_is_tried_again(fleet: Fleet, repo: Path) -> None:
    done = fleet.ticket(repo, "command:test -e small/wanted.py")
    assert done.code == 3 and done.result["state"] == "rejected"
    told = fleet("retry", done.result["ticket"], "--json")
    assert told.code == 0, told.err
    assert eventually(lambda: show(fleet, done.result["ticket"])["attempts"] == 2, 30.0, 0.5)
    assert eventually(lambda: show(fleet, done.result["ticket"])["state"] == "rejected", 30.0, 0.5)


def test_interrupted(repo: Path) -> None:
    """Ctrl-C drains what this command started; the next one finishes the ticket."""
    with fleet_home() as fleet:
        running = fleet.start("run", "--json", "--repo", str(repo), "--title", "Remove", "--agent", slow())
        assert running.stdout is not None
        ticket = next(json.loads(line)["ticket"] for line in running.stdout if '"AgentStarted"' in line)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) == 130
        assert eventually(lambda: not fleet.processes(), 30.0), fleet.processes()
        assert fleet("up").code == 0
        done = fleet("show", "-f", "--json", ticket)
        assert done.code == 0 and done.result["state"] == "in_review", done.out[-1500:]


def slow() -> str:
    return "command:sh -c 'sleep 3; ruff check --fix --exit-zero --select F401 .'"


def test_leaving_a_fleet_that_others_started_leaves_the_ticket_alone(fleet: Fleet, repo: Path) -> None:
    running = fleet.start("run", "--json", "--repo", str(repo), "--title", "Remove", "--agent", slow())
    assert running.stdout is not None
    ticket = next(json.loads(line)["ticket"] for line in running.stdout if '"AgentStarted"' in line)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(30) == 130
    assert fleet("show", "-f", "--json", ticket).result["state"] == "in_review"


def test_gates_on_a_checkout(fleet: Fleet, repo: Path) -> None:
    git(repo, "switch", "-q", "-c", "topic")
    (repo / "small" / "core.py").write_text("def double(number: int) -> int:\n    return number\n")
    commit_all(repo, "Break it")
    red = fleet("gates", str(repo))
    assert red.code == 3 and "test_double" in red.out, red.out + red.err
    (repo / "small" / "core.py").write_text("def double(number: int) -> int:\n    return number + number\n")
    commit_all(repo, "Mend it")
    assert fleet("gates", str(repo)).code == 0


def test_up_and_down(tmp_path: Path) -> None:
    with fleet_home() as fleet:
        assert "no fleet is running" in fleet("status").out
        listed = fleet("ls")
        assert listed.code == 2 and "No fleet is running" in listed.sentence
        up = fleet("up")
        assert up.code == 0 and "limits" in up.out and fleet("up").code == 0
        assert eventually(lambda: all(fleet("status", "--json").rows[0]["services"].values()), 20.0)
        assert fleet("doctor").code == 0
        assert fleet("down").out.strip() == "stopped"
        assert fleet.processes() == {}
        assert "no fleet was running" in fleet("down").out
        assert fleet("clean", "--all", "--yes").code == 0 and not fleet.home.exists()
