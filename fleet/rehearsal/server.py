"""Serves the scripted model on a private unix socket, in both vendors' formats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fleet.adapters.web import serve_unix
from fleet.core.errors import UsageError
from fleet.rehearsal import wire
from fleet.rehearsal.cache import PrefixCache
from fleet.rehearsal.script import Fault, Script, Turn, is_bundled, parse, played

PREFIX = "rehearsal/"
_MOST = 1 << 20


def load(name: str) -> Script:
    """A bundled script by name, or a file by its absolute path. Raises UsageError saying which there are."""
    if is_bundled(name):
        file = files("fleet.rehearsal").joinpath("scripts", f"{name}.toml")
        if file.is_file():
            return parse(file.read_text(encoding="utf-8"), name)
    elif name.startswith("/"):
        path = Path(name)
        if path.is_file() and path.stat().st_size <= _MOST:
            return parse(path.read_text(encoding="utf-8"), path.name)
    known = ", ".join(bundled())
    raise UsageError(f"There is no script {name}.", f"Name a file by its whole path, or one of: {known}.")


def bundled() -> tuple[str, ...]:
    """Names of the scripts in the package."""
    folder = files("fleet.rehearsal").joinpath("scripts")
    return tuple(sorted(one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")))


def create_app() -> Starlette:
    """Its cache of prefixes is only for counting; which turn it is never depends on it."""
    app = Starlette(
        routes=[
            Route("/anthropic/v1/messages", _messages, methods=["POST"]),
            Route("/openai/v1/responses", _responses, methods=["POST"]),
            Route("/openai/v1/chat/completions", _chat, methods=["POST"]),
        ]
    )
    app.state.cache = PrefixCache()
    return app


async def _messages(request: Request) -> Response:
    return await _play(request, "messages")


async def _responses(request: Request) -> Response:
    return await _play(request, "responses")


async def _chat(request: Request) -> Response:
    return await _play(request, "chat")


async def _play(request: Request, form: str) -> Response:
    try:
        heard = wire.hear(await request.body(), request.app.state.cache, form)
        script = await asyncio.to_thread(load, heard.model.removeprefix(PREFIX))
    except (ValueError, UsageError) as error:
        kind = "not_found_error" if isinstance(error, UsageError) else "invalid_request_error"
        status = 404 if isinstance(error, UsageError) else 400
        return JSONResponse({"type": "error", "error": {"type": kind, "message": str(error)}}, status)
    turn = script.turn(heard.turns, int(request.headers.get("x-fleet-attempt", "1")))
    fault = played(turn, heard.said)
    if fault is Fault.STALL:
        await asyncio.sleep(turn.seconds)
    if fault is Fault.STATUS:
        headers = {} if turn.retry_after is None else {"retry-after": f"{turn.retry_after:g}"}
        inner = {"type": "overloaded_error" if turn.status == 529 else "api_error", "message": "As the script says."}
        return JSONResponse({"type": "error", "error": inner}, turn.status, headers)
    make = {"messages": wire.messages, "responses": wire.responses, "chat": wire.chat}[form]
    answer = make(heard, turn, fault)
    if not heard.stream:
        return JSONResponse(dict(answer.whole))
    return StreamingResponse(_events(answer, turn, fault), media_type="text/event-stream")


async def _events(answer: wire.Answer, turn: Turn, fault: Fault | None) -> AsyncIterator[bytes]:
    """A cut or silent stream ends after half of its events."""
    half = max(2, len(answer.events) // 2)
    for at, (name, data) in enumerate(answer.events):
        if at == half and fault is Fault.SILENCE:
            await asyncio.sleep(turn.seconds)
        if at == half and fault is Fault.CUT:
            raise ConnectionResetError("as the script says")
        yield wire.encode(name, data)


def serve(path: Path) -> None:
    """Serves until SIGTERM or SIGINT. Its log would be the tracebacks of the streams that scripts cut."""
    serve_unix(create_app(), path, grace=1, quiet=True)
