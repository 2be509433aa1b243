"""What needs no process: how endings are judged, what the spool and the voice promise, who is wanted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.core.commands import Command, CommandKind
from fleet.core.errors import ParkError, RefusedError, TemporaryError, UsageError
from fleet.core.events import AttemptStopped, Envelope, Heartbeat, Note, Source
from fleet.core.retry import FailureClass
from fleet.core.sandbox import Ending, SandboxResult
from fleet.core.states import Reason, State
from fleet.core.view import Late, TicketView
from tests.support.file_channel import FileChannel
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually
from workers.agents import backend_for
from workers.agents.command import CommandAgent, judge, parse
from workers.link import MOST, Link, pair
from workers.litter import is_git_folder, is_litter_name
from workers.outcome import died, failed, failure_of, unwanted
from workers.spool import Spool
from workers.voice import Ear, Voice

ONE = ticket()
VIEW = TicketView(ONE, State.RUNNING, Reason.CLAIMED, since=0.0, attempt=2)


def ended(ending: Ending = Ending.EXITED, code: int = 0, out: bytes = b"", err: bytes = b"") -> SandboxResult:
    return SandboxResult(ending, code, out, err, False, 0.1)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ParkError("no_sandbox", "none"), FailureClass.NO_SANDBOX),
        (ParkError("config", "bad"), FailureClass.CONFIG),
        (TemporaryError("away", retry_after=7.0), FailureClass.TRANSIENT),
        (RefusedError("no"), FailureClass.AGENT_ERROR),
        (UsageError("what"), FailureClass.CONFIG),
        (OSError(28, "No space left on device"), FailureClass.TRANSIENT),
        (ZeroDivisionError("oops"), FailureClass.CRASHED),
    ],
)
def test_each_error_has_its_failure_class(error: Exception, failure: FailureClass) -> None:
    found = failure_of(error)
    assert found.failure is failure
    assert found.detail
    assert found.retry_after == getattr(error, "retry_after", None)


def test_a_silent_end_is_a_protocol_violation_and_a_death_is_tried_again() -> None:
    assert died(0).failure is FailureClass.PROTOCOL
    assert died(-9).failure is FailureClass.CRASHED
    assert "signal 9" in died(-9).detail


def test_details_are_bounded_and_hold_no_escape_sequences() -> None:
    found = failed(FailureClass.AGENT_ERROR, "x\x1b[2J" * 1000, "\x1b]0;title\x07" * 5000)
    assert len(found.detail) <= 1000
    assert len(found.digest) <= 4000
    assert "\x1b" not in found.detail + found.digest


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        (VIEW, True),
        (replace(VIEW, state=State.STARTING), True),
        (None, False),
        (replace(VIEW, attempt=3), False),
        (replace(VIEW, cancel="by me"), False),
        (replace(VIEW, state=State.CANCELLED), False),
        (replace(VIEW, state=State.BACKING_OFF), False),
        (replace(VIEW, state=State.GATING), False),
        # lost, and its successor not claimed yet
        (replace(VIEW, state=State.BACKING_OFF, late=Late(2, 1)), True),
        (replace(VIEW, state=State.QUEUED, late=Late(2, 1)), True),
        (replace(VIEW, state=State.STARTING, attempt=3, late=Late(2, 1)), True),
        (replace(VIEW, state=State.STARTING, attempt=3, late=Late(1, 1)), False),
        (replace(VIEW, state=State.STARTING, attempt=3, late=Late(2, 1), cancel="by me"), False),
        (replace(VIEW, state=State.RUNNING, attempt=3), False),
    ],
)
def test_an_attempt_is_wanted_only_while_it_is_the_newest_at_work(view: TicketView | None, wanted: bool) -> None:
    assert (unwanted(view, 2) is None) is wanted


def test_commands_are_words_without_a_shell() -> None:
    assert parse('sh -c "a; b" $HOME') == ("sh", "-c", "a; b", "$HOME")
    for bad in ("", '""', 'open "quote', "nul \0"):
        with pytest.raises(UsageError):
            parse(bad)


def test_an_unknown_agent_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="command"):
        backend_for("telepathy:now")
    assert isinstance(backend_for("command:true"), CommandAgent)


def test_only_status_0_is_success() -> None:
    argv = ("ruff", "check", "--fix", ".")
    assert judge(argv, ended()) is None
    red = judge(argv, ended(code=1, out=b"F821 undefined name\nFound 1 error.\n"))
    assert red is not None
    assert red.failure is FailureClass.COMMAND_FAILED
    assert "status 1" in red.detail
    assert "--exit-zero" in red.detail
    assert "Found 1 error." in red.detail
    assert "F821" in red.digest


def test_a_missing_program_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "ruff").write_text("#!")
    (tmp_path / "ruff").chmod(0o755)
    (tmp_path / "README").write_text("no program")
    found = judge(("ruf", "check"), ended(Ending.NOT_FOUND, 127), (tmp_path,))
    assert found is not None
    assert "ruf was not found" in found.detail
    assert "on PATH are ruff." in found.detail


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.EXITED])
def test_every_other_ending_is_a_failure_that_says_why(ending: Ending) -> None:
    found = judge(("x",), ended(ending, 137))
    assert found is not None
    assert found.detail.endswith(".")


def test_litter_by_name() -> None:
    assert is_litter_name("__pycache__")
    assert is_litter_name("x.egg-info")
    assert not is_litter_name("src")
    assert is_git_folder(".GiT. ")
    assert not is_git_folder(".gitignore")


# --- frames ----------------------------------------------------------------------------------------------------------
def test_frames_arrive_whole_in_order_and_bounded() -> None:
    one, other = pair()
    one.send(b"first")
    one.send(b"x" * 50_000)
    assert other.receive() == [b"first", b"x" * 50_000]
    assert other.receive() == []
    one.close()
    assert other.receive() == []
    assert other.closed
    other.close()


def test_a_length_that_is_a_lie_ends_the_talk() -> None:
    raw, end = socket.socketpair()
    with raw, end:
        other = Link(end)
        raw.sendall((MOST + 1).to_bytes(4, "big") + b"x")
        assert other.receive() == []
        assert other.closed


# --- spool and voice -------------------------------------------------------------------------------------------------
def note(seq: int, text: str = "x") -> Envelope:
    return Envelope("default", ONE.id, 1, seq, 0.0, Note(text), Source.ATTEMPTS)


def test_the_spool_gives_back_what_it_took(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for seq in range(1, 51):
        spool.append(note(seq, "é" * seq))
    assert spool.last == 50
    assert [event.seq for event in spool.read(10, 5)] == [10, 11, 12, 13, 14]
    assert spool.read(50, 5)[0].data == Note("é" * 50)
    assert spool.read(51, 5) == []


def test_a_full_spool_still_takes_what_decides(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most=300)
    seq = 1
    while not spool.full(note(seq)):
        spool.append(note(seq))
        seq += 1
    assert seq < 10
    assert not spool.full(replace(note(seq), data=AttemptStopped("done")))


def too_many_words(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most=2000, most_events=10)
    voice = Voice(FileChannel(tmp_path / "channel"), ONE, 1, spool, SystemClock())
    assert [voice.say(Note("x" * 150)) for _ in range(100)].count(True) <= 10
    assert voice.say(AttemptStopped("done"))
    said = [event.data for event in spool.read(1, 100)]
    assert isinstance(said[-2], Note) and "had no room" in said[-2].text
    assert said[-1] == AttemptStopped("done")


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant(
            "workers.spool:Spool.full", "self._end(self.last) >= self._most or self.last >= self._most_events", "False"
        ),
        Mutant("workers.spool:Spool.full", "if isinstance(event.data, ESSENTIAL):", "if False:"),
        Mutant("workers.voice:Voice.say", "if dropped and not", "if False and not"),
    ],
    ids=lambda mutant: mutant.old[:40],
)
def test_a_bound_of_the_spool_switched_off_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    (tmp_path / "with").mkdir()
    too_many_words(tmp_path / "with")
    mutant.install(monkeypatch)
    (tmp_path / "without").mkdir()
    with pytest.raises(AssertionError):
        too_many_words(tmp_path / "without")


@pytest.mark.parametrize("bounds", [{"most": 2000}, {"most_events": 10}], ids=str)
def test_what_had_no_room_is_said_before_what_decides(tmp_path: Path, bounds: dict[str, int]) -> None:
    spool = Spool(tmp_path / "spool", **bounds)
    voice = Voice(FileChannel(tmp_path / "channel"), ONE, 1, spool, SystemClock())
    taken = [voice.say(Note(f"{number:04}")) for number in range(500)]
    assert 0 < taken.count(True) < 20 and not any(taken[20:])
    assert voice.say(AttemptStopped("done"))
    *_, before, last = spool.read(1, 100)
    assert before.data == Note(f"{taken.count(False)} events of this attempt had no room and were not kept.")
    assert (last.data, last.seq) == (AttemptStopped("done"), taken.count(True) + 2)
    assert (tmp_path / "spool").stat().st_size < 4000


class Flaky(FileChannel):
    """Loses, doubles and refuses: the first try of each batch fails after half of it was taken."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tries = 0

    def send(self, events: Sequence[Envelope]) -> None:
        self.tries += 1
        if self.tries % 2:
            super().send(events[: len(events) // 2])
            raise TemporaryError("The answer was lost.")
        super().send(events)


@pytest.mark.invariant("I14")
def test_events_are_gap_free_and_ordered_over_a_channel_that_fails(tmp_path: Path) -> None:
    channel = Flaky(tmp_path / "channel")
    voice = Voice(channel, ONE, 1, Spool(tmp_path / "spool"), SystemClock())
    voice.start()
    for number in range(250):
        assert voice.say(Note(str(number)))
    assert voice.flush(20)
    voice.hush()
    assert [event.seq for event in channel.said()] == list(range(1, 251))
    assert [event.data for event in channel.said()] == [Note(str(number)) for number in range(250)]
    first_seen = list(dict.fromkeys(event.seq for event in channel.events() if event.seq))
    assert first_seen == sorted(first_seen)


@pytest.mark.invariant("I14")
def test_lost_events_are_sent_again_on_demand(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path / "channel")
    voice = Voice(channel, ONE, 1, Spool(tmp_path / "spool"), SystemClock())
    voice.start()
    for number in range(5):
        voice.say(Note(str(number)))
    assert voice.flush(10)
    (tmp_path / "channel" / "inbound").unlink()
    assert channel.said() == []
    ear = Ear(channel, ONE.id, 1, voice, SystemClock(), lambda command: None, lambda reason: None)
    ear.start()
    channel.tell(Command("again-1", CommandKind.RESEND, seq=3))
    assert eventually(lambda: {event.seq for event in channel.said()} >= {3, 4, 5, 6})
    voice.hush()
    ear.close()
    assert [event.kind for event in channel.said()] == ["Note", "Note", "Note", "CommandSeen"]


def test_heartbeats_are_not_numbered_and_name_the_newest_event(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path / "channel")
    voice = Voice(channel, ONE, 1, Spool(tmp_path / "spool"), SystemClock())
    voice.say(Note("one"))
    voice.start()
    assert eventually(lambda: Heartbeat(1) in [event.data for event in channel.events() if event.seq == 0])
    voice.hush()


@pytest.mark.invariant("I19")
def test_while_the_store_is_away_tries_are_few_and_nothing_is_lost(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path / "channel")
    tries = threading.Semaphore(0)
    real = channel.send

    def counting(events: Sequence[Envelope]) -> None:
        tries.release()
        real(events)

    channel.send = counting  # type: ignore[method-assign]
    channel.away.touch()
    voice = Voice(channel, ONE, 1, Spool(tmp_path / "spool"), SystemClock())
    voice.start()
    voice.say(Note("one"))
    assert not voice.flush(1.0)
    counted = 0
    while tries.acquire(blocking=False):
        counted += 1
    assert 1 <= counted <= 6
    channel.away.unlink()
    assert voice.flush(10)
    voice.hush()
    assert channel.kinds() == ["Note"]


def test_a_command_is_obeyed_once_and_answered(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path / "channel")
    heard: list[Command] = []
    voice = Voice(channel, ONE, 1, Spool(tmp_path / "spool"), SystemClock())
    voice.start()
    ear = Ear(channel, ONE.id, 1, voice, SystemClock(), heard.append, lambda reason: None)
    ear.start()
    for _ in range(3):
        channel.tell(Command("n-1", CommandKind.NUDGE, "go on"))
    channel.tell(Command("n-2", CommandKind.STEER, "left"))
    assert eventually(lambda: len(heard) == 2)
    assert eventually(lambda: channel.kinds() == ["CommandSeen", "CommandSeen"])
    voice.hush()
    ear.close()
    assert [command.id for command in heard] == ["n-1", "n-2"]
