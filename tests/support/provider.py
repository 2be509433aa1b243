"""A provider of models on a loopback port: plays scripts as the rehearsal does, and keeps what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.rehearsal.server import create_app
from tests.support.wait import eventually


@dataclass
class Asked:
    """One request: its path, headers as one text, body."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Provider:
    """``url``: what stands in front of ``/anthropic`` and ``/openai``."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def around(self, app: ASGIApp) -> ASGIApp:
        async def kept(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            one = Asked(scope["path"], headers, b"")
            self.asked.append(one)

            async def heard() -> Message:
                message = await receive()
                one.body += message.get("body", b"")
                return message

            await app(scope, heard, send)

        return kept


@contextmanager
def provider(app: Any = None) -> Iterator[Provider]:
    """Serves ``app``, by default the scripted model, until the end of the block."""
    made = Provider()
    config = uvicorn.Config(
        made.around(app or create_app()), host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert eventually(lambda: server.started, timeout=20)
    made.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join(10)
