"""The proxy's faults that other tests do not meet: an answer lost after the deed, and a socket given back."""

from __future__ import annotations

import http.client
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fleet.chaos.proxy import Fault, Proxy, before, to_port

BODY = b"x" * 5000


class Done(BaseHTTPRequestHandler):
    """Remembers what it was asked to do."""

    heard: list[bytes]

    def do_POST(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    handler = type("Handler", (Done,), {"heard": []})
    with HTTPServer(("127.0.0.1", 0), handler) as made:
        made.timeout = 10
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def post(proxy: Proxy) -> int:
    line = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        line.request("POST", "/things", BODY)
        answer = line.getresponse()
        answer.read()
        return answer.status
    finally:
        line.close()


def test_an_answer_can_be_lost_after_the_deed(server: HTTPServer) -> None:
    heard: list[bytes] = server.RequestHandlerClass.heard  # type: ignore[attr-defined]
    proxy = Proxy(to_port(server.server_port))
    try:
        assert (post(proxy), heard) == (201, [BODY])
        proxy.fail(Fault.LATE, 502)
        assert (post(proxy), heard) == (502, [BODY, BODY]), "it was done, and the client was told that it was not"
        proxy.fail(Fault.STATUS, 502)
        assert (post(proxy), heard) == (502, [BODY, BODY])
        proxy.mend()
        assert post(proxy) == 201
    finally:
        proxy.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="fp-"))
    yield made
    shutil.rmtree(made)


def echoing(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)

    def serve() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.sendall(line.recv(100))

    threading.Thread(target=serve, daemon=True).start()
    return listener


def echo(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(path))
        line.sendall(b"hello")
        return line.recv(100)


def close(listener: socket.socket) -> None:
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_socket_is_given_back(folder: Path) -> None:
    path = folder / "s"
    listener = echoing(path)
    with before(path) as (proxy, real):
        assert echo(path) == b"hello" and proxy.connections == 1
        assert echo(real) == b"hello" and proxy.connections == 1
        proxy.fail(Fault.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            echo(path)
        proxy.mend()
        assert echo(path) == b"hello"
    assert echo(path) == b"hello" and not real.exists()
    close(listener)


def test_whoever_listens_anew_keeps_the_place(folder: Path) -> None:
    path = folder / "s"
    first = echoing(path)
    with before(path) as (_, real):
        close(first)
        path.unlink()
        second = echoing(path)
    assert echo(path) == b"hello" and not real.exists()
    close(second)
