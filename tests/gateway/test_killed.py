"""kill -9 of real gateways while calls are set aside: nothing is forgotten, and no limit is passed (I8)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import pytest

from fleet.adapters import keys
from fleet.adapters.acl import Role
from fleet.adapters.clock import SystemClock
from fleet.adapters.embedded_redis import EmbeddedRedis
from fleet.core.codec import encode
from fleet.core.spend import MICRO, Spent, day_of
from fleet.core.view import TicketView
from tests.gateway.conftest import SECRET, Place, over
from tests.gateway.test_gateway import ask, sdk
from tests.support.mutants import Mutant
from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]
LIMIT_USD = 0.1
DUE = keys.of("spend", "due")
# Headers and a beginning, then nothing: the call is under way until its gateway dies.
SILENT = 'title = "x"\n[[turn]]\ntext = "hello hello hello"\nfault = "silence"\nrepeat = true\n'


@contextmanager
def gateway(place: Place, redis: EmbeddedRedis, view: TicketView, mutant: Mutant | None) -> Iterator[Any]:
    """A process and a client of it; killed at the end."""
    path = place.folder / f"killed-{len(list(place.folder.iterdir()))}.sock"
    say = {
        "path": str(path), "view": encode(view).decode(), "model": place.upstreams["rehearsal"].socket,
        "store": str(redis.address.socket), "password": redis.password(Role.GATEWAY), "secret": SECRET.decode(),
        "mutant": (mutant.where, mutant.old, mutant.new) if mutant else (),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-P", "-m", "tests.gateway.process", json.dumps(say)], cwd=ROOT)
    try:
        assert eventually(lambda: path.exists() or process.poll() is not None, timeout=20), "it serves"
        with over(path) as http:
            yield process, sdk(place, view, http)
    finally:
        process.kill()
        process.wait(10)


def one_call(client: anthropic.Anthropic, model: str, said: list[str]) -> None:
    try:
        ask(client, model, most=2000)
        said.append("answered")
    except anthropic.APIStatusError as error:
        said.append(error.response.headers.get("x-fleet-refused", str(error.status_code)))
    except Exception as error:
        said.append(type(error).__name__)


def within(place: Place, view: TicketView) -> Spent:
    now = place.book.ticket(view.id)
    assert now.micros + now.reserved <= LIMIT_USD * MICRO, "a limit was passed"
    return now


def open_calls(place: Place) -> list[Any]:
    """What is set aside for calls under way."""
    names: Any = place.client.zrange(DUE, 0, -1)
    return list(names)


def more(place: Place, known: int, said: list[str]) -> bool:
    return bool(said) or len(open_calls(place)) > known


def dies(place: Place, client: anthropic.Anthropic, process: Any, model: str, most: int) -> list[str]:
    """Up to ``most`` calls are under way, or one was refused, when kill -9 comes; answers what was refused."""
    said, refused = list[str](), list[str]()
    calling: list[threading.Thread] = []
    try:
        while len(calling) < most and not said:
            known = len(open_calls(place))
            calling.append(threading.Thread(target=one_call, args=(client, model, said)))
            calling[-1].start()
            assert eventually(partial(more, place, known, said), timeout=20)
        refused += said
    finally:
        process.kill()
        for thread in calling:
            thread.join(20)
    assert "answered" not in said and len(said) == len(calling)
    return refused


def killed(place: Place, redis: EmbeddedRedis, mutant: Mutant | None = None) -> int:
    """Gateways die with calls under way, until the limit refuses one; answers how many calls their deaths cut off."""
    view, model, refused, rounds = place.at_work(usd=LIMIT_USD), place.script(SILENT), list[str](), 0
    while not refused and rounds < 5:
        held, rounds = place.book.ticket(view.id), rounds + 1
        with gateway(place, redis, view, mutant) as (process, client):
            refused = dies(place, client, process, model, 2 if rounds == 1 else 9)
        now = within(place, view)
        assert now.reserved > held.reserved and now.micros == 0, "all of it may be billed, and it is not over"
    assert refused == ["budget"], "the limit holds over all that died"
    assert rounds > 1, "a run that killed one gateway shows little"
    held, names = within(place, view), open_calls(place)
    assert held.calls == len(names)
    place.client.zadd(DUE, dict.fromkeys(names, 1.0))  # time passes: every call must be over
    with gateway(place, redis, view, mutant) as (_, client):
        said = list[str]()
        one_call(client, model, said)
        assert said == ["budget"], "what nobody can tell counts as spent"
    spent, day = within(place, view), place.book.day(day_of(SystemClock().now()))
    assert (spent.micros, spent.reserved) == (held.reserved, 0), "closed, and nothing of it given back"
    assert (day.micros, day.reserved) == (spent.micros, 0)
    return len(names)


@pytest.mark.invariant("I8")
def test_gateways_that_are_killed_pass_no_limit(
    place: Place, store: EmbeddedRedis, capfd: pytest.CaptureFixture[str]
) -> None:
    cut = killed(place, store)
    with capfd.disabled():
        print(f"\n2 rounds, 2 kills with {cut} calls under way, 0 lost, 0 doubled")


def test_a_gateway_that_sets_nothing_aside_is_noticed(place: Place, store: EmbeddedRedis) -> None:
    mutant = Mutant("lua:spend_reserve", "redis.call('HINCRBY', KEYS[1], prefix .. 'reserved', micros)", "")
    with pytest.raises(AssertionError):
        killed(place, store, mutant)
