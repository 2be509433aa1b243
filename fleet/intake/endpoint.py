"""The address that webhooks are sent to. An answer of 2xx to a label means that its ticket is on disk (I1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet.adapters.telemetry import log
from fleet.core.errors import FleetError, TemporaryError, UsageError
from fleet.intake.watched import WEBHOOK_PATH
from fleet.intake.webhook import Told, read, signed

MOST_BYTES = 1 << 20
_RETRY_S = "60"


@dataclass(frozen=True, slots=True)
class Answer:
    """``status``: 202 accepted, 200 understood and nothing to do. ``said`` is shown with the delivery at the forge."""

    status: int
    said: dict[str, str]


def create_app(secret: str, act: Callable[[Told], Answer]) -> Starlette:
    """``act`` is called in a thread for each believed message that matters; it may raise FleetError."""
    logger = log("intake")

    async def webhook(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _says(413, f"A payload may have {MOST_BYTES} bytes.")
        # Before anything is parsed: who cannot sign is told nothing and costs nothing.
        if not signed(body, secret, request.headers.get("x-hub-signature-256", "")):
            logger.warning("webhook refused", why="wrong signature", bytes=len(body))
            return _says(401, "The signature is missing or wrong.")
        event = request.headers.get("x-github-event", "")
        if event == "ping":
            return _says(200, "pong")
        try:
            told = read(event, body, request.headers.get("content-type", ""))
            if told is None:
                return Response(status_code=204)
            answer = await run_in_threadpool(act, told)
        except UsageError as error:
            return _says(400, str(error))
        except FleetError as error:
            # GitHub never sends again by itself; the sweep finds the label all the same.
            logger.warning("webhook not served", delivery=request.headers.get("x-github-delivery", ""), why=str(error))
            return _says(503 if isinstance(error, TemporaryError) else 500, str(error), {"retry-after": _RETRY_S})
        return JSONResponse(answer.said, answer.status)

    return Starlette(routes=[Route(WEBHOOK_PATH, webhook, methods=["POST"])])


async def _body(request: Request) -> bytes | None:
    """The raw bytes; None as soon as they are too many, whatever the header promised."""
    promised = request.headers.get("content-length", "0")
    if promised.isdigit() and int(promised) > MOST_BYTES:
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return body


def _says(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"message": text}, status, headers)
