"""``fleet replay --file``: what people and scripts read, where it stops, and what is no log."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from pathlib import Path

import pytest

from fleet.cli.replay import _check, forgotten, replay
from fleet.core.archive import pack
from fleet.core.codec import decode_event, encode_event
from fleet.core.errors import FleetError, UsageError
from fleet.core.events import Envelope, EventData, SlotAsked, SlotGranted, Source, StateChanged, TicketAccepted
from fleet.core.states import Reason, State
from supervisor.fold import fold_all
from supervisor.policy import Policy
from tests.support.tickets import ticket

TICKET = ticket(title="Mind the \x1b[2J")
DID: list[tuple[Source, EventData]] = [
    (Source.INTAKE, TicketAccepted(TICKET)),
    (Source.SUPERVISOR, SlotAsked(1)),
    (Source.ADMISSION, SlotGranted()),
    (Source.SUPERVISOR, StateChanged(State.STARTING, Reason.GRANTED, attempt=1)),
]


def raws(did: list[tuple[Source, EventData]] = DID) -> list[bytes]:
    return [
        encode_event(Envelope("default", TICKET.id, 1, 0, 1_700_000_000.0 + n, data, source))
        for n, (source, data) in enumerate(did)
    ]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(raws()) + b"\n")
    return path


def test_each_event_is_told_with_what_it_changed(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(file=log)
    out = capsys.readouterr().out
    assert "    4       3.0s  StateChanged by supervisor of attempt 1" in out
    assert "state: queued → starting" in out and "orders start (attempt 1)" in out
    assert out.endswith(f"{TICKET.id}: 4 events; starting (granted)\n")
    assert "\x1b" not in out and "\\u001b[2J" in out


def test_for_scripts(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(file=log, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["type"] for row in rows] == ["step"] * 4 + ["replay"]
    assert all(row["v"] == 1 for row in rows)
    assert rows[1]["decision"]["judged"] == "same" and rows[1]["decision"]["orders"][0]["kind"] == "ask_slot"
    assert rows[2]["decision"] is None and {"field": "slot", "before": 0, "after": 1} in rows[2]["changes"]
    assert rows[-1]["events"] == 4 and rows[-1]["otherwise"] == 0 and rows[-1]["pending"] is None


@pytest.mark.parametrize("where", [{"at": 3}, {"until": "slotgranted"}])
def test_it_stops_where_it_is_told_and_prints_the_view(
    log: Path, capsys: pytest.CaptureFixture[str], where: dict[str, int | str]
) -> None:
    replay(file=log, as_json=True, **where)  # type: ignore[arg-type]
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["type"] for row in rows] == ["step"] * 3 + ["view", "replay"]
    assert rows[-2]["view"]["state"] == "queued" and rows[-2]["view"]["slot"] == 1
    replay(file=log, until="starting")
    assert '"state": "starting"' in capsys.readouterr().out


def test_what_is_not_there_is_said(log: Path) -> None:
    with pytest.raises(UsageError, match="has 4 events"):
        replay(file=log, at=9)
    with pytest.raises(UsageError, match="merged is not among them"):
        replay(file=log, until="merged")


def test_a_sealed_segment_is_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "segment.jsonl.gz"
    path.write_bytes(pack((f"{n}-0", raw) for n, raw in enumerate(raws(), 1))[0])
    replay(file=path)
    assert "4 events" in capsys.readouterr().out


def test_a_folder_of_segments_is_one_log_and_the_newest_ledgers_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One segment was stored twice, the second time with more in it."""
    rows = [(f"{n}-0", raw) for n, raw in enumerate(raws(), 1)]
    folder = tmp_path / "abc" / TICKET.id
    folder.mkdir(parents=True)
    for first, last in ((1, 2), (1, 3), (3, 4)):
        (folder / f"{first:08d}-{last:08d}-x.jsonl.gz").write_bytes(pack(rows[first - 1 : last])[0])
    replay(file=folder)
    assert "4 events; starting" in capsys.readouterr().out
    assert forgotten(tmp_path, TICKET.id) == forgotten(tmp_path, TICKET.id[:6]) == folder
    (tmp_path / "abc" / f"{TICKET.id[:6]}x").mkdir()
    assert forgotten(tmp_path, TICKET.id) == folder and forgotten(tmp_path, TICKET.id[:6]) is None
    assert forgotten(tmp_path, "other") is None and forgotten(tmp_path / "nowhere", "x") is None


@pytest.mark.parametrize("noise", [b"\x1f\x8bnot gzip", b'{"kind": "No"}', b"{}", b"\xff\xfe", b"[1]"])
def test_what_is_no_log_is_refused(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(noise)
    with pytest.raises(UsageError, match="is not a log"):
        replay(file=path)
    with pytest.raises(UsageError, match="is not a log: No such file"):
        replay(file=tmp_path / "nothing")


def test_a_log_that_breaks_a_law_names_the_event(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\n".join(raws([*DID, (Source.SUPERVISOR, StateChanged(State.MERGED, Reason.PR_MERGED))])))
    with pytest.raises(FleetError, match="Event 5 cannot be folded"):
        replay(file=path)


def test_slips(log: Path) -> None:
    for call in ({}, {"name": "x", "file": log}, {"file": log, "check": True}):
        with pytest.raises(UsageError):
            replay(**call)  # type: ignore[arg-type]
    path = log.with_name("empty")
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="empty"):
        replay(file=path)


def test_a_view_that_its_log_does_not_give_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    events = [decode_event(raw) for raw in raws()]
    view = fold_all(events)
    assert view is not None and _check(events, view, Policy(), as_json=False) == 0
    assert "4 events add up to the stored view" in capsys.readouterr().out
    wrong = changed(view, attempt=2, news=changed(view.news, retry_by="mallory"))
    assert _check(events, wrong, Policy(), as_json=False) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("2 fields differ; the first is attempt") and out[1].split() == ["stored", "2"]
    assert _check(events, wrong, Policy(), as_json=True) == 1
    row = json.loads(capsys.readouterr().out)
    assert row["same"] is False and row["difference"] == {"field": "attempt", "stored": 2, "log": 1}
