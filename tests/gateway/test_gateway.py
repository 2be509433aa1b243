"""Calls through the gateway with the vendors' own SDKs: what passes, what is refused, what is counted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet.core.retry import FailureClass
from fleet.core.spend import PriceTable
from fleet.core.states import State
from fleet.core.view import TicketView
from fleet.gateway.books import Books, Granted, Upstream
from fleet.gateway.wire import Call
from tests.gateway.conftest import Place, run
from tests.support.canary import Scanner, written
from tests.support.wait import eventually
from workers.agents.model import error_of

HELLO = 'title = "x"\n[[turn]]\ntext = "hello"\nrepeat = true\n'


def sdk(place: Place, view: TicketView, http: httpx2.Client) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key=place.key(view), base_url="http://g/rehearsal/anthropic", http_client=http, max_retries=0
    )


def ask(client: anthropic.Anthropic, model: str, most: int = 1000) -> Any:
    with client.messages.stream(model=model, max_tokens=most, messages=[{"role": "user", "content": "hi"}]) as stream:
        return stream.get_final_message()


def spent(http: httpx2.Client, key: str) -> Any:
    return http.get("http://g/spend", headers={"x-api-key": key}).json()


def test_all_three_apis_with_and_without_streams_are_counted(place: Place) -> None:
    view, http, model = place.at_work(), place.serve(), place.script(HELLO)
    key = place.key(view)
    assert ask(sdk(place, view, http), model).content[0].text == "hello"
    whole = sdk(place, view, http).messages.create(
        model=model, max_tokens=9, messages=[{"role": "user", "content": "hi"}]
    )
    assert whole.content[0].text == "hello"  # type: ignore[union-attr]
    other = openai.OpenAI(api_key=key, base_url="http://g/rehearsal/openai/v1", http_client=http, max_retries=0)
    assert other.responses.create(model=model, input="hi").output_text == "hello"
    with other.responses.stream(model=model, input="hi") as events:
        assert events.get_final_response().output_text == "hello"
    chat: Any = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    assert other.chat.completions.create(**chat).choices[0].message.content == "hello"
    with other.chat.completions.stream(**chat) as chunks:
        assert chunks.get_final_completion().choices[0].message.content == "hello"
    # An SDK may leave a stream at its last event, before the gateway has settled it.
    assert eventually(lambda: spent(http, key)["ticket"]["reserved_usd"] == 0)
    told = spent(http, key)
    assert told["attempt"] == told["ticket"]
    assert told["ticket"]["model_calls"] == 6
    assert told["ticket"]["usd"] > 0 and told["ticket"]["output_tokens"] > 6
    assert told["limits"]["usd"] == 2.0


@pytest.mark.invariant("I8")
@pytest.mark.parametrize(
    ("limits", "day", "refusal"),
    [
        ({"model_calls": 3}, 20.0, "calls"),
        ({"usd": 0.05}, 20.0, "budget"),
        ({"tokens": 3000}, 20.0, "tokens"),
        ({}, 0.05, "day"),
    ],
)
def test_a_model_that_always_asks_for_more_is_stopped(
    place: Place, limits: dict[str, Any], day: float, refusal: str
) -> None:
    view = place.at_work(**limits)
    place.day_usd = day
    http, model = place.serve(), place.script(HELLO.replace("hello", "hello " * 400))
    client = sdk(place, view, http)
    with pytest.raises(anthropic.APIStatusError) as caught:
        for _ in range(50):
            ask(client, model, most=2000)
    assert caught.value.response.headers["x-fleet-refused"] == refusal
    assert caught.value.status_code == 402
    # A day has room again by itself; for the ticket's own limits a person is asked.
    end = error_of(caught.value.status_code, caught.value.response.headers, "used up")
    assert end.failure is (FailureClass.PROVIDER_LIMIT if refusal == "day" else FailureClass.BUDGET)
    assert (end.retry_after is None) is (refusal != "day") and 0 <= (end.retry_after or 0.0) <= 86_400
    told = spent(http, place.key(view))["ticket"]
    assert told["usd"] <= min(day, float(limits.get("usd", 2.0)))
    assert told["model_calls"] <= limits.get("model_calls", 100)
    # A retry resets nothing: the next attempt of the ticket is refused at once.
    place.views[view.id] = replace(view, attempt=2)
    with pytest.raises(anthropic.APIStatusError) as again:
        ask(sdk(place, place.views[view.id], http), model, most=2000)
    assert again.value.response.headers["x-fleet-refused"] == refusal


@pytest.mark.invariant("I8")
def test_calls_at_once_cannot_pass_a_limit_together(place: Place) -> None:
    view = place.at_work(usd=0.25)
    granted = together(place.books(), view)
    assert 1 <= len(granted) < 40
    assert sum(one.reservation.micros for one in granted) <= 250_000
    assert place.book.ticket(view.id).reserved == sum(one.reservation.micros for one in granted)


def together(books: Books, view: TicketView) -> list[Granted]:
    call = Call("rehearsal/x", 2000, True, b"x" * 1000)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: books.grant(view.id, view.attempt, "rehearsal", call), range(40)))
    return [answer for answer in answers if isinstance(answer, Granted)]


@pytest.mark.invariant("I8")
def test_a_gateway_that_dies_counts_more_and_never_less(place: Place) -> None:
    view = place.at_work(usd=0.25)
    books = place.books()
    together(books, view)
    held = place.book.ticket(view.id)
    assert held.micros == 0 and held.reserved > 0
    assert together(place.books(), view) == [], "another gateway finds the reservations of the one that died"
    assert place.book.ticket(view.id) == held


@pytest.mark.invariant("I8")
def test_settling_twice_counts_once(place: Place) -> None:
    view = place.at_work()
    books = place.books()
    (first, *_) = together(books, view)
    from fleet.core.spend import Usage

    books.settle(first, Usage(10, 20, 30, 40))
    once = place.book.ticket(view.id)
    books.settle(first, Usage(10, 20, 30, 40))
    assert place.book.ticket(view.id) == once
    assert (once.input_tokens, once.output_tokens, once.cached_tokens) == (50, 20, 30)


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_a_broken_stream_counts(place: Place, fault: str) -> None:
    from fleet.gateway.app import Patience

    if fault == "silence":
        place.patience = Patience(head=4.0)
    view, text = place.at_work(), "word " * 2000
    model = place.script(f'title = "x"\n[[turn]]\ntext = "{text}"\nfault = "{fault}"\n')
    http = place.serve()
    with pytest.raises((anthropic.APIError, httpx2.HTTPError, RuntimeError, AssertionError)):
        message = ask(sdk(place, view, http), model, most=9000)
        assert message.stop_reason is not None
    assert eventually(lambda: place.book.ticket(view.id).reserved == 0, timeout=10)
    counted = place.book.ticket(view.id)
    assert counted.output_tokens >= len(text) // 2 // 3
    assert counted.micros > 0


def test_a_pause_of_the_provider_holds_for_every_ticket(place: Place) -> None:
    view = place.at_work()
    model = place.script('title = "x"\n[[turn]]\nfault = "status"\nstatus = 429\nretry_after = 40\n')
    http, other = place.serve(), place.serve()
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(sdk(place, view, http), model)
    assert "x-fleet-refused" not in caught.value.response.headers
    assert caught.value.response.headers["retry-after"] == "40"
    with pytest.raises(anthropic.RateLimitError) as parked:
        ask(sdk(place, view, other), place.script(HELLO))
    assert parked.value.response.headers["x-fleet-refused"] == "parked"
    assert 1 <= int(parked.value.response.headers["retry-after"]) <= 40
    assert place.book.ticket(view.id).calls == 1, "no call was made while the provider was parked"


def test_an_attempt_that_is_over_and_a_strange_key_are_refused(place: Place) -> None:
    view, http, model = place.at_work(), place.serve(), place.script(HELLO)
    with pytest.raises(anthropic.AuthenticationError):
        ask(anthropic.Anthropic(api_key="sk-real", base_url="http://g/rehearsal/anthropic", http_client=http), model)
    forged = place.key(view)[:-1] + ("0" if place.key(view)[-1] != "0" else "1")
    with pytest.raises(anthropic.AuthenticationError):
        ask(anthropic.Anthropic(api_key=forged, base_url="http://g/rehearsal/anthropic", http_client=http), model)
    gone = [State.GATING, State.PARKED]  # parked: a person paused it, and its attempt has not heard of it yet
    for over in (replace(view, attempt=2), replace(view, cancel="me"), *(replace(view, state=one) for one in gone)):
        place.views[view.id] = over
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            ask(sdk(place, view, http), model)
        assert caught.value.response.headers["x-fleet-refused"] == "closed"
    assert place.book.ticket(view.id).calls == 0


def test_unknown_prices_run_under_the_other_caps_or_are_refused(place: Place) -> None:
    place.prices = PriceTable("2026-01-01", {})
    view, model = place.at_work(), place.script(HELLO)
    http = place.serve()
    ask(sdk(place, view, http), model)
    told = spent(http, place.key(view))["ticket"]
    assert told["usd"] == 0 and told["unknown"] is True and told["output_tokens"] > 0
    strict = place.at_work(unknown_prices=False)
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(sdk(place, strict, http), model)
    assert caught.value.response.headers["x-fleet-refused"] == "unknown_price"
    assert "prices.toml" in str(caught.value)


@pytest.mark.invariant("I7")
def test_the_real_key_is_put_in_here_and_nothing_of_the_caller_leaks(place: Place) -> None:
    seen: list[Request] = []

    async def provider(request: Request) -> Response:
        seen.append(request)
        usage = {"input_tokens": 3, "output_tokens": 2}
        block = {"type": "text", "text": "ok"}
        base = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": [block]}
        return JSONResponse({**base, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})

    run(Starlette(routes=[Route("/v1/messages", provider, methods=["POST"])]), place.folder / "up.sock", place.served)
    place.upstreams["anthropic"] = Upstream(
        "http://up", "sk-canary", socket=str(place.folder / "up.sock"), variable="ANTHROPIC_API_KEY"
    )
    view, http = place.at_work(), place.serve()
    client = anthropic.Anthropic(
        api_key=place.key(view), base_url="http://g/anthropic", http_client=http, max_retries=0,
        default_headers={"x-secret": "mine", "cookie": "a=b"},
    )  # fmt: skip
    answer = client.messages.with_raw_response.create(
        model="claude-sonnet-5-5", max_tokens=10, messages=[{"role": "user", "content": "hi"}]
    )
    headers = seen[0].headers
    assert headers["x-api-key"] == "sk-canary"
    assert place.key(view) not in str(headers.raw)
    assert not {"x-secret", "cookie", "x-fleet-ticket", "authorization"} & set(headers)
    assert "sk-canary" not in str(answer.headers) + answer.text()
    assert spent(http, place.key(view))["ticket"]["usd"] == pytest.approx((3 * 2 + 2 * 10) / 1e6)


@pytest.mark.parametrize(
    ("upstream", "status", "words"),
    [
        (Upstream("http://up", "", variable="ANTHROPIC_API_KEY"), 401, "ANTHROPIC_API_KEY"),
        (Upstream("http://up", "k", socket="/nonexistent.sock", variable="A"), 502, "cannot be reached"),
    ],
)
def test_a_missing_key_and_a_missing_provider_are_said_in_one_sentence(
    place: Place, upstream: Upstream, status: int, words: str
) -> None:
    place.upstreams["anthropic"] = upstream
    view, http = place.at_work(), place.serve()
    body = json.dumps({"model": "claude-sonnet-5-5", "max_tokens": 5, "messages": []})
    answer = http.post("http://g/anthropic/v1/messages", content=body, headers={"x-api-key": place.key(view)})
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert place.book.ticket(view.id).micros == 0 and place.book.ticket(view.id).reserved == 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/rehearsal/anthropic/v1/messages", b"no json", 400),
        ("/rehearsal/anthropic/v1/messages", b'{"max_tokens": 5}', 400),
        ("/rehearsal/anthropic/v1/messages", b'{"model": "m", "max_tokens": -5}', 400),
        ("/rehearsal/openai/v1/chat/completions", b'{"model": "m", "n": 4, "messages": []}', 400),
        ("/rehearsal/anthropic/v1/files", b"{}", 404),
        ("/etc/passwd", b"{}", 404),
        ("/rehearsal/anthropic/v1/messages", b"x" * (9 * 2**20), 413),
    ],
)
def test_what_is_no_call_is_refused_before_anything_is_counted(
    place: Place, path: str, body: bytes, status: int
) -> None:
    view, http = place.at_work(), place.serve()
    answer = http.post(f"http://g{path}", content=body, headers={"x-api-key": place.key(view)})
    assert answer.status_code == status
    assert place.book.ticket(view.id).calls == 0


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("form", ["plain", "base64 at 0", "reversed", "url"])
def test_a_key_that_a_server_repeats_in_its_error_goes_no_further(place: Place, form: str) -> None:
    key = "sk-canary-of+a/provider~0123456789"

    async def echo(request: Request) -> Response:
        given = written(request.headers["x-api-key"])[form].decode()
        return JSONResponse({"type": "error", "error": {"type": "x", "message": f"invalid key: {given}!"}}, 401)

    run(Starlette(routes=[Route("/v1/messages", echo, methods=["POST"])]), place.folder / "e.sock", place.served)
    place.upstreams["anthropic"] = Upstream("http://up", key, socket=str(place.folder / "e.sock"), variable="A")
    view, http = place.at_work(), place.serve()
    body = json.dumps({"model": "claude-sonnet-5-5", "max_tokens": 5, "messages": []})
    answer = http.post("http://g/anthropic/v1/messages", content=body, headers={"x-api-key": place.key(view)})
    assert answer.status_code == 401
    assert "invalid key" in answer.json()["error"]["message"]
    scanner = Scanner({"model key": key})
    scanner.bytes("answer", "body", answer.content)
    scanner.text("answer", "headers", str(answer.headers.raw))
    scanner.check("answer")
