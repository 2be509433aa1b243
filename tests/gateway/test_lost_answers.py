"""Answers that are lost, cut off or tell nothing: what the provider may bill is counted, whatever we saw of it (I8)."""

from __future__ import annotations

import asyncio
import json
import socket as socketlib
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from fleet.core.errors import FleetError
from fleet.core.spend import Price, Usage, at_most
from fleet.core.view import TicketView
from fleet.gateway.app import Patience, _Settling
from fleet.gateway.books import Granted, Upstream
from fleet.gateway.server import price_table
from fleet.gateway.wire import Call
from tests.gateway.conftest import Place, run
from tests.support.mutants import Mutant
from tests.support.wait import eventually

MODEL = "gpt-6-sol"
MOST = 2000
PATH = "/openai/v1/chat/completions"
# What an honest provider says of it: four bytes a token.
BODY = {"model": MODEL, "max_completion_tokens": MOST, "messages": [{"role": "user", "content": "word " * 4000}]}
WHOLE, STREAMED = json.dumps(BODY).encode(), json.dumps({**BODY, "stream": True}).encode()
READ = len(WHOLE) // 4
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "hello "}}]}\n\n'


class Provider:
    """Reads each call, then does what ``fault`` says. ``read`` and ``go_on`` tell and wait."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.read = 0
        self.go_on = False

    async def answer(self, request: Request) -> Response:
        await request.body()
        self.read += 1
        match self.fault:
            case "silence":
                await asyncio.sleep(3600)
            case "cut":
                return Response(b'{"choices": [', headers={"content-length": "9000"})
            case "cut error":
                return Response(b'{"error": ', 500, headers={"content-length": "9000"})
            case "says no usage":
                return Response(json.dumps({"choices": [{"message": {"content": "hello"}}]}).encode())
            case "late head":
                while not self.go_on:
                    await asyncio.sleep(0.01)
        return StreamingResponse(self._pieces(), media_type="text/event-stream")

    async def _pieces(self) -> Any:
        yield CHUNK
        if self.fault == "cut stream":
            raise ConnectionError("cut")
        if self.fault == "pause":
            await asyncio.sleep(3600)
        yield b"data: [DONE]\n\n"


def work(place: Place, fault: str) -> tuple[TicketView, httpx2.Client, Provider]:
    made = Provider(fault)
    app = Starlette(routes=[Route("/v1/chat/completions", made.answer, methods=["POST"])])
    run(app, place.folder / f"{len(place.served)}.sock", place.served)
    socket = str(place.folder / f"{len(place.served) - 1}.sock")
    place.upstreams["openai"] = Upstream("http://up", "sk-x", socket=socket, variable="OPENAI_API_KEY")
    return place.at_work(), place.serve(), made


def post(place: Place, view: TicketView, http: httpx2.Client, body: bytes) -> httpx2.Response:
    return http.post(f"http://g{PATH}", content=body, headers={"x-api-key": place.key(view)})


def counted(place: Place, view: TicketView, read: int, written: int) -> None:
    """All of what was read and written may be on the bill, and no more than was set aside is counted."""
    assert eventually(lambda: place.book.ticket(view.id).reserved == 0, timeout=10), "it is settled, and not left open"
    spent, price = place.book.ticket(view.id), place.prices.find("openai", MODEL)
    assert price is not None
    assert price.micros(Usage(read, written)) <= spent.micros <= price.micros(at_most(len(STREAMED) + 100, MOST))


def whole(place: Place, fault: str) -> None:
    """Nobody can say how long the answer was that was made and lost: all that it could be is on the bill."""
    place.patience = {"silence": Patience(head=1.0), "late": Patience(call=-1.0)}.get(fault, Patience())
    view, http, _ = work(place, "says no usage" if fault == "late" else fault)
    assert post(place, view, http, WHOLE).status_code in (413, 502)
    counted(place, view, READ, MOST)


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("fault", ["cut", "silence", "late"])
def test_a_whole_answer_that_was_lost_counts_as_the_longest(place: Place, fault: str) -> None:
    whole(place, fault)


def untold(place: Place, fault: str) -> None:
    """No usage was told: what was sent was read all the same."""
    view, http, _ = work(place, fault)
    body = WHOLE if fault == "says no usage" else STREAMED
    try:
        assert post(place, view, http, body).status_code == 200
    except httpx2.HTTPError:
        assert fault == "cut stream"
    counted(place, view, READ, 1)


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("fault", ["cut stream", "says no usage", "ends without usage"])
def test_what_was_sent_counts_where_nobody_tells_the_usage(place: Place, fault: str) -> None:
    untold(place, fault)


def left(place: Place, fault: str) -> None:
    """An interrupted agent hangs up, before the answer begins or in its middle: its call is settled."""
    view, _, provider = work(place, fault)
    with socketlib.socket(socketlib.AF_UNIX) as caller:
        caller.connect(str(next(place.folder.glob("gateway-*.sock"))))
        head = f"POST {PATH} HTTP/1.1\r\nhost: g\r\nx-api-key: {place.key(view)}\r\ncontent-length: {len(STREAMED)}"
        caller.sendall(f"{head}\r\n\r\n".encode() + STREAMED)
        assert eventually(lambda: provider.read == 1)
        if fault == "pause":
            assert b"200 OK" in caller.recv(100)
    provider.go_on = fault == "late head"
    counted(place, view, READ, 0)


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("fault", ["late head", "pause"])
def test_a_call_whose_caller_is_gone_is_settled(place: Place, fault: str) -> None:
    left(place, fault)


def hung_up(place: Place) -> None:
    """Whoever asked is gone in the very moment in which the settlement is to begin: it goes on without anybody."""
    view, books = place.at_work(), place.books()
    call = Call("rehearsal/x", 100, True, b"x" * 8000)
    granted = books.grant(view.id, 1, "rehearsal", call)
    assert isinstance(granted, Granted) and place.book.ticket(view.id).reserved > 0

    async def cancelled() -> None:
        asked = asyncio.ensure_future(_Settling(books, granted, call, until=0.0).done(Usage(output_tokens=1)))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        assert asked.cancelled()

    asyncio.run(cancelled())
    assert place.book.ticket(view.id).reserved == 0


@pytest.mark.invariant("I8")
def test_a_settlement_needs_nobody_who_waits_for_it(place: Place) -> None:
    hung_up(place)


def test_an_error_whose_words_are_cut_off_costs_nothing_and_is_settled(place: Place) -> None:
    view, http, _ = work(place, "cut error")
    assert post(place, view, http, WHOLE).status_code == 500
    assert (place.book.ticket(view.id).reserved, place.book.ticket(view.id).micros) == (0, 0)


amounts = st.floats(0, 100, allow_nan=False)
PRICES = st.builds(Price, amounts, amounts, amounts, amounts)
TOKENS = st.integers(0, 10**6)


@pytest.mark.invariant("I8")
@settings(deadline=None)
@given(PRICES, TOKENS, TOKENS, TOKENS, TOKENS)
def test_what_is_set_aside_covers_every_kind_of_input(
    price: Price, plain: int, output: int, cached: int, written: int
) -> None:
    used = Usage(plain, output, cached, written)
    assert price.micros(used) <= price.most(at_most(2 * (plain + cached + written), output))


def free_to_write(place: Place) -> None:
    """A table whose cache is written for nothing: plain input is none of it, and has its price."""
    own = place.folder / "prices.toml"
    own.write_text('[rehearsal."*"]\ninput = 100.0\noutput = 1.0\nwritten = 0.0\n')
    place.prices = price_table(place.folder)
    view, books = place.at_work(usd=0.1), place.books()
    granted = books.grant(view.id, 1, "rehearsal", Call("rehearsal/x", 100, True, b"x" * 8000))
    if isinstance(granted, Granted):
        books.settle(granted, Usage(input_tokens=2000))
    assert place.book.ticket(view.id).usd <= 0.1


@pytest.mark.invariant("I8")
def test_a_price_list_of_ones_own_cannot_open_a_way_past_the_limit(place: Place) -> None:
    free_to_write(place)


MUTANTS: dict[str, tuple[Mutant, Callable[[Place], None]]] = {
    "a lost answer": (
        Mutant("fleet.gateway.app:_Settling.unheard", "self._call.most_output", "0"),
        lambda place: whole(place, "cut"),
    ),
    "input that nobody tells": (
        Mutant("fleet.core.spend:with_input", "-(-body_bytes // _BYTES_PER_TOKEN_SENT)", "0"),
        lambda place: untold(place, "cut stream"),
    ),
    "who asked is gone": (
        Mutant("fleet.gateway.app:_Stream.__call__", "self._settling.done_now(self._reader.settled())", "pass"),
        lambda place: left(place, "pause"),
    ),
    "who asked goes while it is settled": (
        Mutant("fleet.gateway.app:_Settling._settle", "asyncio.shield(self._settled)", "self._settled"),
        hung_up,
    ),
    "the dearest kind": (
        Mutant("fleet.core.spend:Price.most", "max(self.input, self.cached, self.written)", "self.written"),
        free_to_write,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_protection_switched_off_is_noticed(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, scenario = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises((AssertionError, FleetError, pytest.fail.Exception)):
        scenario(place)
