"""Everyday commands on a running fleet: init, completion, doctor, pause and resume, and what they say to a slip."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.kit import Fleet, repository
from tests.support.wait import eventually

LONG = "command:sleep 60"


def test_init_writes_a_config_once(fleet: Fleet, repo: Path) -> None:
    first = fleet("init", str(repo), "--json")
    assert first.code == 0 and first.rows == [{"v": 1, "type": "written", "path": str(repo / ".fleet.toml")}], first.err
    text = (repo / ".fleet.toml").read_text()
    assert "[gates.tests]" in text and "[gates.lint]" in text
    again = fleet("init", str(repo))
    assert again.code == 2 and "--force" in again.sentence
    assert fleet("init", str(repo), "--force").code == 0 and (repo / ".fleet.toml").read_text() == text


def test_words_are_completed(fleet: Fleet) -> None:
    # Which shell it is, typer asks the parent processes; a test run has any.
    shown = fleet("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert shown.code == 0 and "complete -o default -F" in shown.out
    given = {"_FLEET_COMPLETE": "complete_bash", "COMP_WORDS": "fleet st", "COMP_CWORD": "1"}
    assert set(fleet(env=given).out.split()) >= {"status", "steer"}


@pytest.mark.invariant("I7")
def test_doctor_names_keys_and_never_says_them(fleet: Fleet) -> None:
    done = fleet("doctor", "--json", env={"OPENAI_API_KEY": "sk-canary-of-doctor", "ANTHROPIC_API_KEY": ""})
    said = {row["says"]: row for row in done.rows if row["name"] == "model"}
    assert said["openai: OPENAI_API_KEY is set"]["level"] == "ok"
    assert said["anthropic: no key"]["mend"].startswith("export ANTHROPIC_API_KEY=")
    assert "canary" not in done.out + done.err


def test_a_slip_gets_a_hint(fleet: Fleet) -> None:
    assert "Did you mean 'status'" in fleet("stauts").err
    assert "--json" in fleet("ls", "--jsno").err


def test_a_ticket_is_paused_resumed_and_misspelt(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "held")
    began = fleet.ticket(repo, LONG, "--detach")
    assert began.code == 0, began.err
    ticket = began.rows[-1]["ticket"]

    def state() -> str:
        return str(fleet("show", ticket, "--json").result["state"])

    assert eventually(lambda: state() == "running", 60.0)
    assert "cannot listen" in fleet("steer", ticket, "hello").sentence
    assert f"Did you mean {ticket}?" in fleet("show", ticket[:-1] + "~").sentence
    assert fleet("pause", ticket).code == 0 and state() == "parked"
    assert fleet("show", ticket).out.splitlines()[0].endswith(f"Next: `fleet resume {ticket}`")
    assert "nothing to pause" in fleet("pause", ticket).sentence
    assert fleet("resume", ticket).code == 0
    assert eventually(lambda: state() == "running", 60.0)
    assert fleet("cancel", ticket).code == 0 and state() == "cancelled"
    assert "not paused" in fleet("resume", ticket).sentence


@pytest.mark.invariant("I6")
def test_the_whole_fleet_is_paused_and_followed_through_a_death_of_its_supervisor(fleet: Fleet, tmp_path: Path) -> None:
    repo = repository(tmp_path / "whole")
    ticket = fleet.ticket(repo, LONG, "--detach").rows[-1]["ticket"]
    follower = fleet.start("show", "-f", ticket, "--json")
    assert follower.stdout is not None
    kinds = (json.loads(line).get("kind") for line in follower.stdout)
    assert next(kind for kind in kinds if kind == "ToolStarted")
    os.kill(fleet.services()["supervisor"], signal.SIGKILL)
    paused = fleet("pause", "--all", "--json")
    assert paused.rows == [{"v": 1, "type": "paused", "stopped": [ticket], "still_at_work": []}], paused
    last = json.loads(follower.communicate(timeout=60)[0].splitlines()[-1])
    assert (last["type"], last["state"], last["reason"], follower.returncode) == ("result", "parked", "paused", 4)
    assert "NOTHING NEW STARTS" in fleet("status").out
    assert fleet("status", "--json").rows[-1]["paused"]["by"] == "cli"
    later = fleet.ticket(repo, "command:touch new.txt", "--detach", title="Later").rows[-1]["ticket"]
    assert eventually(lambda: "resume --all" in fleet("show", later).out.splitlines()[0], 30.0)
    assert fleet("resume", "--all", "--json").rows[-1]["tickets"] == [ticket]
    assert fleet("cancel", ticket).code == 0
    done = fleet("show", "-f", later)
    assert "● " in done.out and "attempt 1 claimed" in done.out and f"details       fleet show {later}" in done.out
    history = fleet("show", ticket, "--json").result["history"]
    assert history[0]["ended"] == "paused" and fleet("status", "--json").rows[-1]["paused"] is None
    assert "not paused" in fleet("resume", "--all").sentence
