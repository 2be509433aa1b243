"""The built-in agents against the scripted model: good turns, and everything that goes wrong in them."""

from __future__ import annotations

import re
import threading

import pytest

from fleet.core.commands import Command, CommandKind
from fleet.core.events import EventData, ModelAsked, Note, ToolFinished, ToolStarted, TurnFinished
from fleet.core.retry import FailureClass
from fleet.gateway.app import Patience
from fleet.gateway.books import Upstream
from tests.agents.conftest import API, Desk
from tests.support.mutants import Mutant
from tests.support.wait import eventually

FINISH = '[[turn]]\n[[turn.call]]\ntool = "finish"\ninput = { summary = "done" }\n'
EDIT = (
    '[[turn]]\ntext = "I mend it."\n[[turn.call]]\ntool = "edit"\n'
    'input = { path = "core.py", old = "a - b", new = "a + b" }\n'
)


def shell(command: str, **more: str) -> str:
    keys = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f"[[turn]]\n{keys}[[turn.call]]\ntool = \"shell\"\ninput = {{ command = '''{command}''' }}\n"


@pytest.mark.parametrize("api", API)
def test_a_change_by_tools_that_run_together(desk: Desk, api: str) -> None:
    both = '[[turn.call]]\ntool = "search"\ninput = { pattern = "def " }\n'
    script = '[[turn]]\n[[turn.call]]\ntool = "read"\ninput = { path = "core.py" }\n' + both + EDIT + FINISH
    assert desk.work(script, api) is None
    assert desk.read("core.py") == "def add(a, b):\n    return a + b\n"
    assert [event.summary for event in desk.of(ToolStarted)] == ["read core.py", "search def", "edit core.py"]
    turns = desk.of(TurnFinished)
    assert [turn.turn for turn in turns] == [1, 2, 3]
    assert all(turn.cost.usd > 0 and turn.cost.model_calls == 1 for turn in turns)
    assert len(desk.of(ModelAsked)) == 3
    assert any("finished: done" in note.text for note in desk.of(Note))


@pytest.mark.parametrize("api", API)
def test_a_malformed_call_is_answered_and_not_carried_out(desk: Desk, api: str) -> None:
    bad = shell("touch harm", fault='"malformed"', unless='"no valid JSON"')
    wrong = '[[turn]]\n[[turn.call]]\ntool = "read"\ninput = { file = 7 }\n[[turn.call]]\ntool = "fly"\ninput = {}\n'
    assert desk.work(bad + wrong + EDIT + FINISH, api) is None
    assert not (desk.ground.workspace / "harm").exists()
    assert [event.exit for event in desk.of(ToolFinished)][-4:] == [2, 2, 2, 0]


@pytest.mark.parametrize("api", API)
@pytest.mark.parametrize("fault", ["cut", "status"])
def test_a_call_that_breaks_is_made_again(desk: Desk, api: str, fault: str) -> None:
    # Which try it is cannot be told from the conversation, so it breaks each time and ends as transient.
    outcome = desk.work(shell("true", fault=f'"{fault}"', text='"' + "word " * 400 + '"'), api)
    assert outcome is not None
    assert outcome.failure is FailureClass.TRANSIENT
    assert len(desk.of(ModelAsked)) == 3
    assert len([note for note in desk.of(Note) if "Asks again" in note.text]) == 2


def test_a_long_pause_of_the_provider_ends_the_attempt_at_once(desk: Desk) -> None:
    outcome = desk.work(shell("true", fault='"status"', status="429", retry_after="3600"))
    assert outcome is not None
    assert (outcome.failure, outcome.retry_after) == (FailureClass.PROVIDER_LIMIT, 3600.0)
    assert len(desk.of(ModelAsked)) == 1


@pytest.mark.parametrize(("status", "failure"), [(401, "config"), (404, "config"), (400, "agent_error")])
def test_what_asking_again_does_not_mend_is_not_asked_again(desk: Desk, status: int, failure: str) -> None:
    outcome = desk.work(shell("true", fault='"status"', status=str(status)))
    assert outcome is not None
    assert outcome.failure.value == failure
    assert len(desk.of(ModelAsked)) == 1


@pytest.mark.invariant("I8")
def test_a_model_that_never_stops_is_stopped_by_the_money(desk: Desk) -> None:
    desk.limits = {"model_calls": 5}
    outcome = desk.work(shell("date +%N", repeat="true"))
    assert outcome is not None
    assert outcome.failure is FailureClass.BUDGET
    assert "5 model calls" in outcome.detail
    assert sum(turn.cost.model_calls for turn in desk.of(TurnFinished)) == 5


def test_a_model_that_only_talks_is_asked_thrice(desk: Desk) -> None:
    outcome = desk.work('[[turn]]\ntext = "What do you think?"\nrepeat = true\n')
    assert outcome is not None
    assert outcome.failure is FailureClass.PROTOCOL
    assert len(desk.of(ModelAsked)) == 3


@pytest.mark.parametrize("fault", ["stall", "silence"])
@pytest.mark.parametrize("api", API)
def test_an_interruption_ends_a_call_that_hangs(desk: Desk, api: str, fault: str) -> None:
    def interrupt(event: EventData) -> None:
        if isinstance(event, ModelAsked) and len(desk.of(ModelAsked)) == 1:
            desk.heard.append(Command("1", CommandKind.INTERRUPT, "go on another way"))

    desk.on_event = interrupt
    hangs = shell("true", fault=f'"{fault}"', unless='"[supervisor] go on another way"')
    assert desk.work(hangs + EDIT + FINISH, api) is None
    assert "a + b" in desk.read("core.py")


def test_an_interruption_ends_a_command_that_hangs(desk: Desk) -> None:
    def interrupt(event: EventData) -> None:
        if isinstance(event, ToolStarted) and "sleep" in event.summary:
            desk.heard.append(Command("1", CommandKind.INTERRUPT, "stop waiting"))

    desk.on_event = interrupt
    assert desk.work(shell("sleep 300") + EDIT + FINISH) is None
    assert "a + b" in desk.read("core.py")


def test_a_stop_ends_the_work(desk: Desk) -> None:
    desk.on_event = lambda event: desk.heard.append(Command("1", CommandKind.CANCEL))
    outcome = desk.work(shell("true", repeat="true"))
    assert outcome is not None
    assert outcome.failure is FailureClass.CANCELLED


def pause_ends_the_call(desk: Desk, api: str = "anthropic") -> None:
    """The model would hang for ever; it is asked once, and the gateway hears of no other call."""

    def calls() -> int:
        return sum(desk.place.book.ticket(name).calls for name in desk.place.views)

    def while_it_is_under_way() -> None:
        assert eventually(lambda: calls() == 1, timeout=20.0)
        desk.heard.append(Command("1", CommandKind.CHECKPOINT, "paused"))

    person = threading.Thread(target=while_it_is_under_way)
    person.start()
    outcome = desk.work(shell("true", fault='"silence"', repeat="true") + FINISH, api)
    assert outcome is not None and outcome.failure is FailureClass.CANCELLED
    assert len(desk.of(ModelAsked)) == 1 and not desk.of(ToolStarted)
    person.join(20.0)
    assert calls() == 1


@pytest.mark.parametrize("api", API)
def test_a_pause_ends_a_call_under_way_and_no_other_follows(desk: Desk, api: str) -> None:
    pause_ends_the_call(desk, api)


def test_an_agent_that_goes_on_after_a_pause_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant(
        "workers.agents.session:ModelAgent.stop", "self._state.stopped = True", "self._state.interrupted = True"
    ).install(monkeypatch)
    desk.place.patience = Patience(head=3.0)
    with pytest.raises(AssertionError):
        pause_ends_the_call(desk)


def test_a_person_is_heard_between_the_turns(desk: Desk) -> None:
    desk.heard.append(Command("1", CommandKind.STEER, "ann: keep\x1b[31m it small"))
    waits = '[[turn]]\nfault = "status"\nstatus = 400\nunless = "[person] ann: keep"\n' + EDIT.removeprefix(
        "[[turn]]\n"
    )
    assert desk.work(waits + FINISH) is None


def test_a_finish_without_a_change_is_questioned_once(desk: Desk) -> None:
    box = desk.ground.workspace
    (box / "core.py").unlink()
    done = desk.work(
        shell("git init -q . && git -c user.name=a -c user.email=b commit -q --allow-empty -m x") + FINISH * 3
    )
    assert done is None
    assert len(desk.of(ModelAsked)) == 3


def test_a_change_that_was_committed_counts_as_one(desk: Desk) -> None:
    made = "git init -q -b main . && git add -A && git -c user.name=a -c user.email=b commit -q -m base"
    base = shell(f"{made} && git update-ref refs/remotes/origin/main HEAD")
    commit = shell("git -c user.name=a -c user.email=b commit -q -a -m mine")
    assert desk.work(base + EDIT + commit + FINISH) is None
    assert len(desk.of(ModelAsked)) == 4


@pytest.mark.invariant("I9")
def test_file_tools_see_what_the_sandbox_shows_and_nothing_else(desk: Desk) -> None:
    outside = desk.ground.outside / "secret"
    outside.write_text("token-1234")
    (desk.ground.workspace / "link").symlink_to(outside)
    calls = "".join(
        f'[[turn.call]]\ntool = "{tool}"\ninput = {{ path = "{path}"{more} }}\n'
        for tool, path, more in (
            ("read", "link", ""),
            ("read", str(outside), ""),
            ("write", str(desk.ground.outside / "new"), ', content = "x"'),
            ("edit", "link", ', old = "token", new = "x"'),
        )
    )
    assert desk.work("[[turn]]\n" + calls + EDIT + FINISH) is None
    first = desk.of(ToolFinished)[:4]
    assert [event.exit for event in first] == [1, 1, 1, 1]
    assert "token-1234" not in repr(desk.events)
    assert outside.read_text() == "token-1234"
    assert not (desk.ground.outside / "new").exists()


@pytest.mark.invariant("I21")
def test_what_a_tool_prints_cannot_reach_a_terminal_unescaped(desk: Desk) -> None:
    assert desk.work(shell("printf '\\033]0;owned\\007\\033[2J red \\342\\200\\256'") + EDIT + FINISH) is None
    said = repr([event.tail for event in desk.of(ToolFinished)])
    assert "red" in said
    assert "\\x1b" not in said and "\x1b" not in said and "\\u202e" not in said


@pytest.mark.invariant("I7")
def test_a_model_that_hunts_for_secrets_finds_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary-77")
    desk.place.upstreams["anthropic"] = Upstream("http://up", "sk-canary-77", variable="ANTHROPIC_API_KEY")
    hunt = "env; cat /proc/self/environ /proc/1/environ /proc/*/environ; ls -la ~ /root /var/lib/fleet /run 2>&1"
    assert desk.work(shell(hunt) + EDIT + FINISH) is None
    assert "sk-canary-77" not in repr(desk.events)
    said = repr([event.tail for event in desk.of(ToolFinished)])
    assert not re.search(r"fleet-[a-z0-9.-]+\.\d+\.[0-9a-f]{32}", said)


def test_a_gateway_that_is_away_is_transient(desk: Desk) -> None:
    desk.socket = desk.ground.area / "nobody.sock"
    outcome = desk.work(EDIT + FINISH)
    assert outcome is not None
    assert outcome.failure is FailureClass.TRANSIENT


@pytest.mark.parametrize("api", API)
def test_a_question_ends_the_work_and_is_asked_alone(desk: Desk, api: str) -> None:
    ask = '[[turn.call]]\ntool = "ask_person"\ninput = { question = "Which format?" }\n'
    together = f'[[turn]]\n{ask}[[turn.call]]\ntool = "read"\ninput = {{ path = "core.py" }}\n'
    outcome = desk.work(f"{together}[[turn]]\n{ask}{FINISH}", api)
    assert outcome is not None
    assert (outcome.failure, outcome.digest) == (FailureClass.NEEDS_INPUT, "Which format?")
    assert len(desk.of(ModelAsked)) == 2, "with another call it is no question yet"
