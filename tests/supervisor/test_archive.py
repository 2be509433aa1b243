"""Logs that leave the ledger: nothing is lost on the way, whoever dies, and they read as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.adapters import keys
from fleet.adapters.archive_store import ArchiveStore
from fleet.adapters.artifacts import FolderArtifacts
from fleet.adapters.follow import Follower
from fleet.adapters.segments import Segments
from fleet.cli.tickets import readable_log
from fleet.core.archive import DamagedSegment, Segment, pack
from fleet.core.codec import encode
from fleet.core.events import (
    AttemptFailed,
    Note,
    RetryRequested,
)
from fleet.core.past import Past
from fleet.core.retry import FailureClass
from fleet.core.states import State
from fleet.core.step import Refused
from fleet.core.ticket import shard_of
from supervisor.fold import fold_all
from tests.supervisor.archive_room import DAY, SMALL, Room
from tests.supervisor.world import World
from tests.support.players import CHANGE
from tests.support.tickets import ticket


def sealed_when_it_ended(world: World, folder: Path) -> None:
    room, wanted = Room(world, folder), ticket()
    room.ends(wanted)
    before, view = room.log(wanted), world.seen(wanted)
    assert view.state is State.CANCELLED and len(before) == view.version == room.stream(wanted)
    room.passes(0.0)
    assert room.stream(wanted) == view.version, "its last words may still come"
    room.passes(60.0)
    assert room.stream(wanted) == 0
    assert room.log(wanted) == before and fold_all(before) == view
    (segment,) = room.ledger.sealed(wanted.id)
    assert (segment.first, segment.last) == (1, view.version)
    assert room.artifacts.path(segment.name) is not None
    assert not [key for key in room.keys_of(wanted) if "}:tell:" in key or "}:gates:" in key]


@pytest.mark.invariant("I17")
def test_the_log_of_a_ticket_that_ended_is_sealed_and_reads_as_before(world: World, folder: Path) -> None:
    sealed_when_it_ended(world, folder)


def what_comes_later_follows(world: World, folder: Path) -> None:
    """A ticket that is tried once more after it was sealed has one log, in order."""
    room, wanted = Room(world, folder), ticket(agent="command:true")
    world.running(room.supervisor, wanted)
    # The server's clock was ahead, and is set right later: the stream alone knows where it stands.
    world.clients["admin"].execute_command("XSETID", keys.log(wanted.id), "9999999999999-0")
    world.players.attempt_says(wanted.id, 1, AttemptFailed(FailureClass.COMMAND_FAILED, "exit 2"))
    world.turns(room.supervisor)
    room.told(wanted)
    room.passes(61.0)
    assert room.stream(wanted) == 0 and world.seen(wanted).state is State.REJECTED
    early = room.log(wanted)
    world.players.person(wanted.id, RetryRequested("ada"))
    world.until_quiet(room.supervisor)
    whole = room.log(wanted)
    assert whole[: len(early)] == early and len(whole) > len(early)
    assert fold_all(whole) == world.seen(wanted) and world.seen(wanted).state is State.IN_REVIEW
    cursor = room.ledger.sealed(wanted.id)[-1].cursor
    assert [event for _, event in room.ledger.log(wanted.id, cursor)] == whole[len(early) :]


@pytest.mark.invariant("I17")
def test_a_log_goes_on_after_it_was_sealed(world: World, folder: Path) -> None:
    what_comes_later_follows(world, folder)


def long_log(world: World, folder: Path) -> None:
    """The stream of a ticket at work is bounded, and its log is whole."""
    room, wanted = Room(world, folder, SMALL), ticket()
    world.running(room.supervisor, wanted)
    for number in range(150):
        world.players.attempt_says(wanted.id, 1, Note(f"step {number}"))
        if number % 25 == 0:
            room.passes(0.0)
            assert room.stream(wanted) <= SMALL.live_most + 25
    room.passes(0.0)
    assert SMALL.live_kept <= room.stream(wanted) <= SMALL.live_most
    segments = room.ledger.sealed(wanted.id)
    assert len(segments) > 3 and max(one.last - one.first + 1 for one in segments) <= SMALL.segment_most
    whole = room.log(wanted)
    assert fold_all(whole) == world.seen(wanted) and len(whole) == world.seen(wanted).version
    assert [event.data.text for event in whole if isinstance(event.data, Note)] == [f"step {n}" for n in range(150)]
    world.players.attempt_says(wanted.id, 1, CHANGE)
    world.until_quiet(room.supervisor)
    assert world.seen(wanted).state is State.IN_REVIEW and fold_all(room.log(wanted)) == world.seen(wanted)


@pytest.mark.invariant("I17")
def test_the_older_part_of_a_long_log_is_sealed_while_the_ticket_lives(world: World, folder: Path) -> None:
    long_log(world, folder)


def read_from_any_place(world: World, folder: Path) -> None:
    room, wanted = Room(world, folder, SMALL), ticket()
    world.running(room.supervisor, wanted)
    follower = Follower(world.clients["telemetry"], room.artifacts)
    seen = list(follower.news())
    for number in range(100):
        world.players.attempt_says(wanted.id, 1, Note(f"step {number}"))
    room.passes(0.0)
    whole = room.log(wanted)
    assert [*seen, *follower.news()] == whole == list(follower.log(wanted.id))
    assert list(Follower(world.clients["telemetry"], room.artifacts).news()) == whole
    cursors = ["0"]
    while rows := room.ledger.log(wanted.id, cursors[-1]):
        cursors += [cursor for cursor, _ in rows]
    assert len(cursors) == len(whole) + 1
    for place in range(0, len(cursors), 7):
        assert [event for _, event in room.ledger.log(wanted.id, cursors[place])] == whole[place:]


def test_whoever_follows_from_any_place_reads_everything_once(world: World, folder: Path) -> None:
    read_from_any_place(world, folder)


def test_what_is_sealed_while_it_is_read_is_read_once(folder: Path) -> None:
    """The stream was read, then the same rows were sealed, then the ledger's entry about them was read."""
    rows = [(f"{n}-0", b'{"kind":"%d"}' % n) for n in range(1, 6)]
    data, digest = pack(rows[:4])
    FolderArtifacts(folder).put("logs/x", data)
    sealed = encode((Segment("logs/x", 1, 4, "4-0", digest),))
    segments = Segments(lambda: FolderArtifacts(folder))
    for start in range(6):
        assert segments.joined(rows[start:], sealed, f"{start}-0") == rows[start:]
        assert segments.joined(rows[2:][start:], sealed, "0") == rows[: min(4, start + 2)] + rows[2:][start:]
    assert segments.joined([], sealed, "1-0") == rows[1:4]


def killed_in_between(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner dies when the segment is stored and the ledger does not know it yet: the next one does it again."""
    room, wanted = Room(world, folder), ticket()
    room.ends(wanted)
    before = room.log(wanted)

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patching:
        patching.setattr(ArchiveStore, "seal", killed)
        with pytest.raises(Killed):
            room.passes(61.0)
    assert room.stream(wanted) == len(before) and not room.ledger.sealed(wanted.id)
    stored = list(room.folder.rglob("*.gz"))
    assert len(stored) == 1
    room.world.clock.advance(10.0)
    room.supervisor = room.owner("two")
    world.clients["admin"].delete(*[keys.of(shard_of(wanted.id), "owner")])
    room.passes(61.0)
    assert room.stream(wanted) == 0 and room.log(wanted) == before
    assert list(room.folder.rglob("*.gz")) == stored, "the same content has the same name"


@pytest.mark.invariant("I6")
def test_a_crash_between_storing_and_telling_is_harmless(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_in_between(world, folder, monkeypatch)


def replaced_owner(world: World, folder: Path) -> None:
    """An owner that was replaced takes nothing away, and what it stores replaces nothing."""
    room, wanted = Room(world, folder), ticket()
    room.ends(wanted)
    frozen = room.supervisor
    world.clock.advance(61.0)
    shard = shard_of(wanted.id)
    world.clients["admin"].incr(keys.of(shard, "epoch"))
    before = room.stream(wanted)
    assert frozen._archivist is not None
    with pytest.raises(Refused):
        frozen._archivist.turn(frozen._keepers, world.clock.now(), world.clock.monotonic())
    assert room.stream(wanted) == before and not room.ledger.sealed(wanted.id)
    world.clock.advance(31 * DAY)
    keeper = frozen._keepers[shard]
    with pytest.raises(Refused):
        world.archivist(room.artifacts)._archive.forget(
            shard, keeper.shard.epoch, {wanted.id: (world.seen(wanted).version, Past("cancelled", 0.0))}
        )
    assert world.ledgers["people"].view(wanted.id) is not None


@pytest.mark.invariant("I3")
def test_an_owner_that_was_replaced_takes_nothing_away(world: World, folder: Path) -> None:
    replaced_owner(world, folder)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_segment_is_said_and_hides_nothing_else(world: World, folder: Path, damage: str) -> None:
    room, wanted = Room(world, folder, SMALL), ticket()
    world.running(room.supervisor, wanted)
    for number in range(80):
        world.players.attempt_says(wanted.id, 1, Note(f"step {number}"))
    room.passes(0.0)
    path = room.artifacts.path(room.ledger.sealed(wanted.id)[0].name)
    assert path is not None
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedSegment):
        room.log(wanted)
    rest, said = readable_log(room.ledger, wanted.id)
    assert len(rest) == room.stream(wanted) and path.name in said
    follower = Follower(world.clients["telemetry"], room.artifacts)
    assert list(follower.news()) == rest == list(follower.log(wanted.id))


def test_a_full_disk_leaves_the_log_where_it_is_and_stops_nobody(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, wanted = Room(world, folder), ticket()
    room.ends(wanted)

    def full(name: str, data: bytes) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patching:
        patching.setattr(room.artifacts, "put", full)
        room.passes(61.0)
    assert room.stream(wanted) == world.seen(wanted).version
    other = ticket(2)
    world.players.accept(other)
    world.until_quiet(room.supervisor)
    assert world.seen(other).state is State.IN_REVIEW
    room.passes(61.0)
    room.passes(0.0)
    assert room.stream(wanted) == 0
