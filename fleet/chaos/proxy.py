"""A proxy that fails on purpose, in front of a store, a forge or a model: refused, reset, stalled, cut, HTTP errors.

It counts what arrives, so that a test can tell patience from spinning. Threads; one per connection and direction.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

_CHUNK = 1 << 16
_LINGER = struct.pack("ii", 1, 0)


class Fault(Enum):
    """REFUSE: nobody listens. RESET: cut with an error once something was asked, those under way at once.
    STALL: taken, and never answered.

    CUT: the first bytes of each answer, then the end. STATUS: every HTTP request is answered with ``status``.
    LATE: every HTTP request is carried out, and answered with ``status`` all the same.
    """

    NONE = "none"
    REFUSE = "refused"
    RESET = "reset"
    STALL = "stalled"
    CUT = "cut"
    STATUS = "status"
    LATE = "late"


@dataclass
class Proxy:
    """``upstream`` connects to what it stands for. ``socket_path``: listens there instead of on a loopback port."""

    upstream: Callable[[], socket.socket]
    socket_path: Path | None = None
    fault: Fault = Fault.NONE
    status: int = 503
    headers: tuple[str, ...] = ()
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    port: int = 0
    inode: int = 0

    def __post_init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, fault: Fault, status: int = 503, *headers: str) -> None:
        """From now on, for connections under way as well; starts to count anew."""
        self.status, self.headers = status, headers
        self.connections, self.requests = 0, []
        before, self.fault = self.fault, fault
        if fault is Fault.REFUSE:
            self._deafen()
        elif before is Fault.REFUSE:
            self._listen()
        if fault is not Fault.NONE or before is Fault.STALL:
            self._cut_all(reset=fault in (Fault.RESET, Fault.REFUSE))

    def mend(self) -> None:
        self.fail(Fault.NONE)

    def close(self) -> None:
        self._deafen()
        self._cut_all(reset=False)

    # --- inside ----------------------------------------------------------------------------------------------------
    def _listen(self) -> None:
        if self.socket_path is not None:
            self.socket_path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.socket_path))
            self.inode = self.socket_path.stat().st_ino
        else:
            listener = socket.socket(socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            self.port = listener.getsockname()[1]
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _deafen(self) -> None:
        """Closing alone would leave the accepting thread with the socket; a shutdown wakes it."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.add(line)
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with suppress(OSError):
            if self.fault is Fault.STATUS:
                self._request(line)
                self._answer(line)
            elif self.fault is Fault.LATE:
                self._carry_out(*self._request(line))
                self._answer(line)
            elif self.fault is Fault.RESET:
                self._note(line.recv(_CHUNK), False)
                _reset(line)
            elif self.fault is Fault.STALL:
                while line.recv(_CHUNK):
                    pass
            else:
                self._forward(line)
        self._drop(line)

    def _forward(self, line: socket.socket) -> None:
        there = self.upstream()
        with self._lock:
            self._open.add(there)
        back = threading.Thread(target=self._pump, args=(there, line, True), daemon=True)
        back.start()
        self._pump(line, there, False)
        back.join()
        self._drop(there)

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(_CHUNK):
                self._note(piece, answers)
                if answers and self.fault is Fault.CUT:
                    sink.sendall(piece[: min(60, len(piece) // 2)])
                    break
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _request(self, line: socket.socket) -> tuple[bytes, bytes]:
        """(head, body), whole: a client that is answered before it has said all would meet a reset instead."""
        got = b""
        while b"\r\n\r\n" not in got and (piece := line.recv(_CHUNK)):
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        self._note(head, False)
        rows = [row.split(b":", 1) for row in head.lower().split(b"\r\n")[1:]]
        length = next((int(row[1]) for row in rows if row[0] == b"content-length"), 0)
        chunked = any(row[0] == b"transfer-encoding" for row in rows)
        while len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n")):
            piece = line.recv(_CHUNK)
            if not piece:
                break
            body += piece
        return head, body

    def _carry_out(self, head: bytes, body: bytes) -> None:
        """Has the request done behind the proxy; its answer is read to the end and told to nobody."""
        if not head:
            return
        kept = [row for row in head.split(b"\r\n") if not row.lower().startswith(b"connection:")]
        with self.upstream() as there:
            there.sendall(b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n" + body)
            while there.recv(_CHUNK):
                pass

    def _answer(self, line: socket.socket) -> None:
        text = b'{"message": "on purpose"}'
        more = "".join(f"{one}\r\n" for one in self.headers)
        said = f"HTTP/1.1 {self.status} Fault\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        line.sendall(f"{said}{more}Connection: close\r\n\r\n".encode() + text)

    def _note(self, piece: bytes, answers: bool) -> None:
        """The first line of what looks like an HTTP request."""
        first = piece.split(b"\r\n", 1)[0]
        if not answers and b" HTTP/1." in first:
            self.requests.append(first.decode("latin-1").rsplit(" ", 1)[0])

    def _cut_all(self, reset: bool) -> None:
        with self._lock:
            lines, self._open = self._open, set()
        for line in lines:
            if reset:
                _reset(line)
            else:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def _drop(self, line: socket.socket) -> None:
        with self._lock:
            self._open.discard(line)
        line.close()


def _reset(line: socket.socket) -> None:
    """Ends a connection as a crash does: nothing more is sent, and the other side meets an error."""
    with suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        line.shutdown(socket.SHUT_RDWR)
    line.close()


def to_port(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", port), 10)


def to_socket(path: Path) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(path))
        return line

    return connect


@contextmanager
def before(path: Path) -> Iterator[tuple[Proxy, Path]]:
    """A proxy in the place of the socket ``path``, and where the real one lies meanwhile.

    Lines that were open before stay as they are. Whoever serves there may be killed and listen anew: then the proxy is
    out of the way, and stays so.
    """
    real = path.with_name(f"{path.name}.real")
    path.rename(real)
    proxy = Proxy(to_socket(real), path)
    try:
        yield proxy, real
    finally:
        proxy.close()
        if path.exists() and path.stat().st_ino == proxy.inode:
            real.replace(path)
        else:
            real.unlink(missing_ok=True)
