"""Logs: one JSON object a line, with whom it is about, without secrets, and never in anybody's way."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.adapters import telemetry
from fleet.adapters.redaction import STAND_IN, Redactor
from fleet.adapters.telemetry import about, configure_logging, log, register_secret
from tests.support.clock import VirtualClock

ROOT = Path(__file__).parents[2]


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    level = root.level
    configure_logging("publisher", stream, VirtualClock())
    yield stream
    for handler in list(root.handlers):
        if getattr(handler, "stream", None) is stream:
            root.removeHandler(handler)
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_who_and_about_what(out: io.StringIO) -> None:
    with about(tenant="default", ticket="demo-1", attempt=2, trace="00-a-b-01"):
        log().info("pushed", head="abc")
    log().debug("not shown")
    log().warning("after")
    first, second = lines(out)
    assert first == {
        "at": "2023-11-14T22:13:20.000+00:00",
        "level": "info",
        "service": "publisher",
        "event": "pushed",
        "head": "abc",
        "tenant": "default",
        "ticket": "demo-1",
        "attempt": 2,
        "trace": "00-a-b-01",
    }
    assert "ticket" not in second and second["level"] == "warning"


def test_other_libraries_log_the_same_way(out: io.StringIO) -> None:
    with about(ticket="demo-1"):
        logging.getLogger("celery.worker").warning("lost %s", "connection")
        logging.getLogger("urllib3.connectionpool").info("too chatty")
    (one,) = lines(out)
    assert (one["event"], one["logger"], one["ticket"]) == ("lost connection", "celery.worker", "demo-1")


def test_an_exception_is_part_of_its_line(out: io.StringIO) -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        log().exception("failed")
    (one,) = lines(out)
    assert "ValueError: boom" in one["exception"] and one["level"] == "error"


@pytest.mark.invariant("I7")
def test_a_secret_is_in_no_line_in_no_form(out: io.StringIO) -> None:
    secret = 'fft_c4n"ary/+öZ'
    register_secret(secret)
    raw = secret.encode()
    basic = base64.b64encode(b"x-access-token:" + raw).decode()
    tries = [
        secret,
        secret[::-1],
        raw.hex(),
        quote(secret, safe=""),
        basic,
        base64.urlsafe_b64encode(b"a" + raw).decode(),
    ]
    for text in tries:
        log().info(f"in the event {text}", value=text, nested={"deep": [text]})
        logging.getLogger("github").error("Authorization: %s", text)
    try:
        raise ValueError(secret)
    except ValueError:
        log().exception("failed")
    written = out.getvalue()
    assert "c4n" not in written and "n4c" not in written and raw.hex() not in written and basic[24:36] not in written
    assert written.count(STAND_IN) >= len(tries) * 4


@pytest.mark.invariant("I7")
def test_mutant_without_redaction_is_noticed(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    register_secret("fft_second_canary")
    monkeypatch.setattr(telemetry, "_redactor", Redactor())
    log().info("fft_second_canary")
    assert "fft_second_canary" in out.getvalue()


@pytest.mark.invariant("I7")
@given(st.binary(max_size=9), st.text("abcdefghijklmnop0123456789_-", min_size=6, max_size=40), st.binary(max_size=9))
def test_base64_at_any_place(before: bytes, secret: str, after: bytes) -> None:
    redactor = Redactor()
    redactor.register(secret)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert STAND_IN in redactor.clean(encode(before + secret.encode() + after).decode())


def test_short_words_are_no_secrets() -> None:
    redactor = Redactor()
    redactor.register("main")
    assert redactor.clean("the main branch") == "the main branch"


@pytest.mark.invariant("I21")
def test_no_text_can_steer_a_terminal_or_fill_the_disk(out: io.StringIO) -> None:
    log().info("a\x1b[2J\u202e\nb", text="x" * 100_000, odd=b"\xff", lone="\udc80")
    assert out.getvalue().count("\n") == 1 and out.getvalue().isascii()
    assert all(c == "\n" or c.isprintable() for c in out.getvalue()) and len(out.getvalue()) < 20_000


def test_a_file_is_private_appended_and_cut_when_it_is_big(tmp_path: Path, out: io.StringIO) -> None:
    path = tmp_path / "publisher.log"
    for number in range(2):
        configure_logging("publisher", path, VirtualClock())
        log().info("line", number=number)
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1]
    assert path.stat().st_mode & 0o777 == 0o600 and out.getvalue() == ""
    os.truncate(path, telemetry._FILE_BYTES + 1)
    configure_logging("publisher", path, VirtualClock())
    log().info("fresh")
    assert path.read_text().count("\n") == 1 and (tmp_path / "publisher.log.1").exists()
    configure_logging("publisher", io.StringIO(), VirtualClock())


def test_a_full_disk_stops_nobody(out: io.StringIO) -> None:
    configure_logging("publisher", Path("/dev/full"), VirtualClock())
    log().info("lost")
    logging.getLogger("other").warning("lost, too")
    configure_logging("publisher", out, VirtualClock())
    log().info("back")
    assert [line["event"] for line in lines(out)] == ["back"]


def test_before_it_is_configured_nothing_is_printed() -> None:
    code = "from fleet.adapters.telemetry import log; log().info('quiet')"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("", "")
