"""Flower behind a password: every page, not only the API, and on loopback only.

Flower 2.2 shows its pages and /metrics to anybody; here no request reaches it without the password. It runs as a
process of its own with the broker's ``monitor`` account, which cannot touch the ledger or send a wake-up. Its secrets
come from a private file, never from the command line or the environment. Flower and tornado are an extra, so they are
loaded only in that process.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from fleet.core.errors import UsageError

USER = "fleet"
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


def flower_command(
    settings: Path,
    *,
    broker_url: str,
    options: Mapping[str, Any],
    password: str,
    port: int = 5555,
    url_file: Path,
    python: str = sys.executable,
) -> tuple[list[str], dict[str, str]]:
    """Writes ``settings`` (0600) and gives the argv and the additional environment that start Flower with it.

    ``port`` 0 picks a free one; the address is written to ``url_file`` once it listens, without the password
    (``flower_link`` adds it). Raises UsageError when Flower is not installed.
    """
    if python == sys.executable and find_spec("flower") is None:
        raise UsageError("Flower is not installed.", "Install the extra `flower` of ticketfleet.")
    content = {
        "broker_url": broker_url,
        "options": dict(options),
        "password": password,
        "port": port,
        "url_file": str(url_file),
    }
    _write(settings, json.dumps(content))
    url_file.unlink(missing_ok=True)
    return [python, "-P", "-m", "fleet.adapters.flower_auth", str(settings)], {}


def flower_link(url: str, password: str) -> str:
    """The address that a browser opens without asking."""
    return url.replace("://", f"://{USER}:{quote(password, safe='')}@", 1)


def authorized(header: str, password: str) -> bool:
    """True for HTTP basic authentication with our user and ``password``; takes equally long for every wrong one."""
    scheme, _, encoded = header.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, f"{USER}:{password}".encode())


def local_host(header: str) -> bool:
    """True when the browser believes to speak with this machine (a name of somebody else's means rebinding)."""
    host = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return host in HOSTS


def application(password: str) -> Any:
    """Flower's application class with the guard in front of all its handlers."""
    web, flower = import_module("tornado.web"), import_module("flower.app")
    base_handler: Any = web.RequestHandler
    base_application: Any = flower.Flower

    class Refused(base_handler):  # type: ignore[misc]
        """Answers every method of every address."""

        def initialize(self, status: int) -> None:
            self.refusal = status

        def prepare(self) -> None:
            self.set_status(self.refusal)
            if self.refusal == 401:
                self.set_header("WWW-Authenticate", 'Basic realm="fleet", charset="UTF-8"')
            self.finish("This page needs the password that `fleet up --flower` printed.\n")

        def check_xsrf_cookie(self) -> None:
            """Nothing is done, so nothing can be forged."""

    class GuardedFlower(base_application):  # type: ignore[misc]
        def find_handler(self, request: Any, **kwargs: Any) -> Any:
            if not local_host(request.host):
                return self.get_handler_delegate(request, Refused, {"status": 403})
            if not authorized(request.headers.get("Authorization", ""), password):
                return self.get_handler_delegate(request, Refused, {"status": 401})
            return super().find_handler(request, **kwargs)

    return GuardedFlower


def _fix_socket_broker() -> None:
    """Flower's client for a unix socket knows no user name, and the server has no user without one."""
    broker: Any = import_module("flower.utils.broker")
    base: Any = broker.RedisSocket

    class Socket(base):  # type: ignore[misc]
        def __init__(self, broker_url: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(broker_url, *args, **kwargs)
            parts = urlsplit(broker_url)
            self.redis.connection_pool.connection_kwargs.update(
                path=unquote(parts.path), username=unquote(parts.username or "") or None
            )

    broker.RedisSocket = Socket


def main(path: str) -> int:
    """Serves until SIGTERM."""
    settings = json.loads(Path(path).read_text())
    celery_app = import_module("fleet.adapters.celery_app")
    urls = import_module("flower.urls")
    options = import_module("tornado.options").options
    import_module("flower.options")
    _fix_socket_broker()
    for name, value in {
        "address": "127.0.0.1",
        "port": settings["port"],
        "basic_auth": [f"{USER}:{settings['password']}"],
        "persistent": False,
        "max_tasks": 10_000,
    }.items():
        setattr(options, name, value)
    capp = celery_app.make_app(settings["broker_url"], {}, name="fleet", options=settings["options"]).app
    flower = application(settings["password"])(capp=capp, options=options, **urls.settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        port = flower.start_http_server()
        _write(Path(settings["url_file"]), f"http://127.0.0.1:{port}/")
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        flower.stop()
    except OSError as error:
        print(f"Flower cannot listen on port {settings['port']}: {error.strerror}.", file=sys.stderr)
        return 2
    return 0


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(path.name + ".new")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
