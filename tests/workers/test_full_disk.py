"""An attempt on a disk that is full, and a guard that breaks: what decides is said, and nothing lives on."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.ids import SystemIds
from fleet.adapters.launcher import folder_of
from fleet.core.codec import CodecError, decode_event, encode_event
from fleet.core.commands import Command, CommandKind
from fleet.core.events import AttemptFailed, AttemptStarted, AttemptStopped, ChangeReady, Envelope, Note, Source
from tests.support.file_channel import FileChannel
from tests.support.mutants import Mutant
from tests.support.tickets import ticket
from tests.support.wait import eventually
from tests.workers.kit import CLOCK, Attempts
from tests.workers.test_signs import at_work
from workers.guard import Guard, Post
from workers.link import Link
from workers.loop import Assignment, Tools
from workers.spool import Spool
from workers.voice import Voice

ONE = ticket()
ROOM = 2000
WORDS = 200
READY = ChangeReady("bundle", "c", "t", "b", 1, 1, 0)


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may grow beyond ``size``: what is written there is cut short or refused, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def note(seq: int) -> Envelope:
    return Envelope("default", ONE.id, 1, seq, 0.0, Note(f"{seq:05} {'x' * 100}"), Source.ATTEMPTS)


def kept(folder: Path) -> None:
    """What the disk does not take is kept in memory, and given back in its order."""
    spool = Spool(folder / "spool")
    with room(ROOM):
        assert all(spool.append(note(seq)) for seq in range(1, 51))
    assert spool.append(note(51)), "there is room again"
    assert list(spool.read(1, 100)) == [note(seq) for seq in range(1, 52)]


def refused(folder: Path) -> None:
    """A disk without any room at all."""
    spool = Spool(folder / "spool")
    with room(0):
        assert spool.append(note(1)) and spool.append(note(2))
    assert list(spool.read(1, 5)) == [note(1), note(2)]


def bounded(folder: Path) -> None:
    """The memory is bounded, too, and what decides has its place all the same."""
    spool = Spool(folder / "spool", most_kept=5000)
    voice = Voice(FileChannel(folder / "channel"), ONE, 1, spool, SystemClock())
    with room(ROOM):
        taken = [voice.say(note(seq).data) for seq in range(1, WORDS + 1)]
        assert 0 < taken.count(True) < 50
        assert voice.say(AttemptStopped("done"))
    said = [event.data for event in spool.read(1, WORDS)]
    assert said[-1] == AttemptStopped("done")
    told = [int(data.text.split()[0]) for data in said if isinstance(data, Note) and "had no room" in data.text]
    assert sum(told) == taken.count(False)


@pytest.mark.invariant("I14")
@pytest.mark.parametrize("scenario", [kept, refused, bounded])
def test_a_spool_on_a_full_disk(tmp_path: Path, scenario: Callable[[Path], None]) -> None:
    scenario(tmp_path)


def test_a_spool_without_a_place_on_disk_lives_in_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "missing" / "spool")
    assert spool.append(note(1)) and spool.append(note(2))
    assert list(spool.read(1, 5)) == [note(1), note(2)]


class Sheets(FileChannel):
    """Each word in a file of its own, so that there is room for it where the spool has none."""

    def send(self, events: Sequence[Envelope]) -> None:
        self._here()
        for event in events:
            fresh = self.folder / f"fresh.{event.seq}"
            fresh.write_bytes(encode_event(event))
            fresh.replace(self.folder / f"said.{time.monotonic_ns()}")

    def events(self) -> list[Envelope]:
        return [decode_event(path.read_bytes(), Source.ATTEMPTS) for path in sorted(self.folder.glob("said.*"))]


def chatty(assignment: Assignment, tools: Tools, link: Link) -> None:
    """Says more than there is room for, and hands over."""
    for data in (*(note(number).data for number in range(WORDS)), READY):
        link.send(encode_event(Envelope("default", ONE.id, 1, 0, 0.0, data, Source.ATTEMPTS)))


def full(attempts: Attempts) -> None:
    attempts.channel = Sheets(attempts.layout.work / "sheets")

    def run(ticket: str, attempt: int) -> None:
        spool = folder_of(attempts.layout.attempts, ticket, attempt) / "events.spool"
        post = Post("host", "incarnation", SystemIds().hex(16), spool)
        tools, slots, channel = attempts.tools(), attempts.slots, attempts.channel
        with room(ROOM):
            Guard(ticket, attempt, channel=channel, post=post, slots=slots, tools=tools, clock=CLOCK, work=chatty).run()

    attempts.serve(run)
    attempts.finish(attempts.order("anthropic"))
    said = attempts.channel.said()
    assert isinstance(said[0].data, AttemptStarted)
    assert [event.data for event in said[-2:]] == [READY, AttemptStopped("done", left=0)]
    assert [event.seq for event in said] == list(range(1, len(said) + 1))


@pytest.mark.invariant("I14")
def test_an_attempt_hands_over_on_a_full_disk(attempts: Attempts) -> None:
    full(attempts)


def broken(attempts: Attempts) -> None:
    """A guard that breaks at its work ends the attempt before it says so and before the slot is given back."""
    at_work(attempts)
    attempts.channel.tell(Command("n-1", CommandKind.NUDGE, "x" * 2_000_000))
    assert eventually(lambda: "AttemptStopped" in attempts.channel.kinds(), 20)
    *_, failure, stopped = [event.data for event in attempts.channel.said()]
    assert isinstance(failure, AttemptFailed)
    assert stopped == AttemptStopped("failed", left=0)


@pytest.mark.invariant("I3")
@pytest.mark.invariant("I10")
def test_a_guard_that_breaks_leaves_nobody_at_work(attempts: Attempts) -> None:
    broken(attempts)


MUTANTS = {
    "a short write counts": ("workers.spool:Spool._written", "== len(raw)", ">= 0", kept),
    "no bound for the memory": ("workers.spool:Spool.append", "+ len(raw) > self._most_kept", "< 0", bounded),
    "a full disk is an error": ("workers.spool:Spool._written", "except OSError:", "except KeyError:", refused),
    "what decides has no place": ("workers.spool:Spool.append", "not must", "True", bounded),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_spool_without_this_protection_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, old, new, scenario = MUTANTS[name]
    Mutant(where, old, new).install(monkeypatch)
    with pytest.raises((AssertionError, CodecError, OSError)):
        scenario(tmp_path)


def test_a_broken_guard_that_ends_nobody_is_noticed(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    Mutant("workers.guard:Guard._watch", "finally:", "except KeyError:").install(monkeypatch)
    with pytest.raises(AssertionError):
        broken(attempts)
