"""The gateway over HTTP: takes a placeholder key, passes the call on with the real one, counts what comes back.

What is streamed is passed on as it comes. A call ends in exactly one settling, however it ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route as Path
from starlette.types import Receive, Scope, Send

from fleet.adapters.redaction import Redactor
from fleet.core.errors import TemporaryError, UsageError
from fleet.core.spend import Refusal, Usage, with_input
from fleet.gateway.books import Books, Granted, Refused
from fleet.gateway.wire import Api, Call, Route, StreamReader, error_body, read_call, refusal_status, route, usage_of

MOST_REQUEST = 8 * 2**20
MOST_ANSWER = 32 * 2**20
_CONNECT_S = 10.0
# A provider that says nothing about how long is asked again after this; one that says less is believed.
_PARK_S = 30.0
_LONGEST_PARK_S = 3600.0
_PASSED_BACK = ("content-type", "retry-after", "request-id", "x-request-id", "anthropic-version")
_PASSED_ON = ("anthropic-version", "anthropic-beta", "content-type", "accept")
_BUSY = frozenset({429, 529})


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. ``head``: until the answer's head, and between two pieces of its body; ``call``: all of a call."""

    head: float = 600.0
    call: float = 1800.0

    @property
    def longest(self) -> float:
        """After so long a call is over: the last piece may come just before its end, after a whole wait for it."""
        return self.call + self.head + 2 * _CONNECT_S


class Gateway:
    """One per process. ``rehearsal_headers``: only the scripted model is told who asks."""

    def __init__(self, books: Books, patience: Patience) -> None:
        self._books = books
        self._patience = patience
        self._clients: dict[str, httpx2.AsyncClient] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Path("/spend", self._spend, methods=["GET"]),
                Path("/{path:path}", self._call, methods=["POST"]),
            ],
            lifespan=self._life,
        )

    @asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        """Closes the connections to the providers at the end."""
        yield
        for client in self._clients.values():
            await client.aclose()

    # --- requests --------------------------------------------------------------------------------------------------
    async def _spend(self, request: Request) -> Response:
        who = self._books.who(_key(request))
        if who is None:
            return JSONResponse({"error": "unknown key"}, 401)
        try:
            return JSONResponse(await run_in_threadpool(self._books.spent, *who))
        except TemporaryError as error:
            return JSONResponse({"error": str(error)}, 503)

    async def _call(self, request: Request) -> Response:
        to = route(request.url.path)
        if to is None:
            return JSONResponse({"error": {"type": "not_found_error", "message": "There is no such path."}}, 404)
        who = self._books.who(_key(request))
        if who is None:
            return _refuse(to.api, Refused(Refusal.NO_KEY, "This key is none of this fleet's."))
        body = await _bounded(request)
        if body is None:
            return _refuse(to.api, Refused(Refusal.BYTES, f"A call may have {MOST_REQUEST // 2**20} MiB."))
        try:
            call = read_call(to.api, body)
            granted = await run_in_threadpool(self._books.grant, *who, to.provider, call)
        except UsageError as error:
            return JSONResponse(error_body(to.api, 400, str(error)), 400)
        except TemporaryError as error:
            return JSONResponse(error_body(to.api, 503, str(error)), 503)
        if isinstance(granted, Refused):
            return _refuse(to.api, granted)
        return await self._pass_on(request, to, call, granted)

    async def _pass_on(self, request: Request, to: Route, call: Call, granted: Granted) -> Response:
        """From here on the reservation is settled exactly once."""
        settling = _Settling(self._books, granted, call, asyncio.get_running_loop().time() + self._patience.call)
        try:
            answer = await self._ask(request, to, call, granted)
        except httpx2.HTTPError as error:
            # It may have been read and even answered.
            await (settling.unheard() if _sent(error) else settling.free())
            what = "did not answer in time" if isinstance(error, httpx2.TimeoutException) else "cannot be reached"
            message = f"{to.provider} {what} ({type(error).__name__})."
            return JSONResponse(error_body(to.api, 502, message), 502)
        except BaseException:
            await settling.unheard()
            raise
        headers = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
        if answer.status_code in _BUSY:
            pause = min(_LONGEST_PARK_S, _retry_after(answer.headers) or _PARK_S)
            await run_in_threadpool(self._books.park, to.provider, pause)
            headers["retry-after"] = str(round(pause))
        if answer.status_code >= 400:
            text: bytes | None = None
            with suppress(httpx2.HTTPError):  # an error is one, also when its words are cut off
                text = await _rest(answer, settling)
            await settling.free()
            return Response(_scrubbed(text or b"", granted.upstream.key), answer.status_code, headers)
        if call.stream:
            return _Stream(answer, to.api, settling, headers)
        return await _whole(answer, to.api, settling, headers)

    async def _ask(self, request: Request, to: Route, call: Call, granted: Granted) -> httpx2.Response:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        # What comes must be readable here, so it comes uncompressed.
        headers["accept-encoding"] = "identity"
        upstream = granted.upstream
        if to.provider == "rehearsal":
            headers["x-fleet-ticket"] = granted.reservation.ticket
            headers["x-fleet-attempt"] = str(granted.reservation.attempt)
        elif to.api is Api.MESSAGES:
            headers["x-api-key"] = upstream.key
        else:
            headers["authorization"] = f"Bearer {upstream.key}"
        client = self._client(upstream.socket)
        url = f"{upstream.base_url.rstrip('/')}/{to.upstream}"
        asked = client.build_request("POST", url, content=call.body, headers=headers)
        return await client.send(asked, stream=True)

    def _client(self, socket: str) -> httpx2.AsyncClient:
        if socket not in self._clients:
            transport = httpx2.AsyncHTTPTransport(uds=socket) if socket else None
            timeout = httpx2.Timeout(self._patience.head, connect=_CONNECT_S)
            self._clients[socket] = httpx2.AsyncClient(
                transport=transport, timeout=timeout, follow_redirects=False, trust_env=not socket
            )
        return self._clients[socket]


class _Settling:
    """Settles once. The store may be away: then the reservation stands, which counts more than was used.

    ``until``: by the loop's clock; whatever comes later is not waited for, so that every call has an end.
    """

    def __init__(self, books: Books, granted: Granted, call: Call, until: float) -> None:
        self._books = books
        self._granted = granted
        self._call = call
        self._until = until
        self._open = True
        self._settled: asyncio.Future[None] | None = None  # held, or a settlement that nobody awaits could be collected

    @property
    def late(self) -> bool:
        return asyncio.get_running_loop().time() > self._until

    async def done(self, usage: Usage) -> None:
        """For a call that was answered: no provider gives its input away, whether or not it tells what that was."""
        await self._settle(with_input(usage, len(self._call.body)))

    async def unheard(self) -> None:
        """For a call whose answer is lost: what is not streamed is on the bill as a whole, however long it was."""
        await self.done(Usage(output_tokens=0 if self._call.stream else self._call.most_output))

    async def free(self) -> None:
        """For a call that was refused, or never sent."""
        await self._settle(Usage())

    def done_now(self, usage: Usage) -> None:
        """For the end of a cancelled stream, where nothing can be awaited any more."""
        if self._open:
            self._open = False
            with suppress(TemporaryError):
                self._books.settle(self._granted, with_input(usage, len(self._call.body)))

    async def _settle(self, usage: Usage) -> None:
        """To its end, even where the caller hangs up meanwhile: what was cancelled here would stand as set aside."""
        if self._open:
            self._open = False
            self._settled = asyncio.ensure_future(self._write(usage))
            await asyncio.shield(self._settled)

    async def _write(self, usage: Usage) -> None:
        with suppress(TemporaryError):
            await run_in_threadpool(self._books.settle, self._granted, usage)


class _Stream(StreamingResponse):
    """Passes a stream on. Who asked may be gone before its first piece: it is settled and closed all the same."""

    def __init__(self, answer: httpx2.Response, api: Api, settling: _Settling, headers: Mapping[str, str]) -> None:
        self._answer = answer
        self._reader = StreamReader(api)
        self._settling = settling
        super().__init__(self._pieces(), answer.status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._settling.done_now(self._reader.settled())
            with suppress(Exception):
                await self._answer.aclose()

    async def _pieces(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._answer.aiter_raw():
                self._reader.feed(chunk)
                size += len(chunk)
                if size > MOST_ANSWER or self._settling.late:
                    break
                yield chunk
        except httpx2.HTTPError:
            await self._settling.done(self._reader.settled())
            raise
        # Settled before the caller sees the end: who asks for the sum afterwards finds this call in it.
        await self._settling.done(self._reader.settled())


async def _whole(answer: httpx2.Response, api: Api, settling: _Settling, headers: Mapping[str, str]) -> Response:
    try:
        text = await _rest(answer, settling)
    except httpx2.HTTPError as error:
        await settling.unheard()
        return JSONResponse(error_body(api, 502, f"The answer was cut off ({type(error).__name__})."), 502)
    if text is None:
        await settling.unheard()
        return _refuse(api, Refused(Refusal.BYTES, f"An answer may have {MOST_ANSWER // 2**20} MiB, and take a while."))
    usage = Usage()
    with suppress(ValueError):
        usage = usage_of(api, json.loads(text))
    await settling.done(usage.most(Usage(output_tokens=0 if usage.total else len(text) // 3)))
    return Response(text, answer.status_code, dict(headers))


async def _rest(answer: httpx2.Response, settling: _Settling) -> bytes | None:
    """The body, or None when it is too long or takes too long."""
    parts, size = [], 0
    try:
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            if size > MOST_ANSWER or settling.late:
                return None
            parts.append(chunk)
    finally:
        await answer.aclose()
    return b"".join(parts)


async def _bounded(request: Request) -> bytes | None:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_REQUEST:
            return None
        parts.append(chunk)
    return b"".join(parts)


def _scrubbed(text: bytes, key: str) -> bytes:
    """An error without the key that some servers repeat in it: the attempt and its issue get to read it (I7)."""
    redactor = Redactor()
    redactor.register(key)
    return redactor.clean(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _key(request: Request) -> str:
    given = request.headers.get("x-api-key") or request.headers.get("authorization", "")
    return given.removeprefix("Bearer ").strip()


def _refuse(api: Api, refused: Refused) -> Response:
    status = refusal_status(refused.refusal)
    headers = {"x-fleet-refused": refused.refusal.value}
    if refused.retry_after:
        headers["retry-after"] = str(max(1, round(refused.retry_after)))
    return JSONResponse(error_body(api, status, refused.message), status, headers)


def _retry_after(headers: httpx2.Headers) -> float:
    """Seconds; 0 when none are named (a date is none: the clocks need not agree)."""
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return 0.0


def _sent(error: httpx2.HTTPError) -> bool:
    """Whether the call may have reached the provider."""
    return not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
