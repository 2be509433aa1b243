"""Between the guard and its loop: length-prefixed frames over a socket pair. Neither side trusts the length."""

from __future__ import annotations

import socket
import struct

from fleet.core.errors import InternalError

MOST = 1 << 20
_HEAD = struct.Struct(">I")
_CHUNK = 1 << 16


class Link:
    """One end. ``send`` blocks, ``receive`` never does."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray()
        self.closed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        """Raises InternalError above ``MOST`` bytes; does nothing when the other side is gone."""
        if len(frame) > MOST:
            raise InternalError(f"A message of {len(frame)} bytes is too long; {MOST} are allowed.")
        try:
            self._socket.sendall(_HEAD.pack(len(frame)) + frame)
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def receive(self) -> list[bytes]:
        """The frames that have arrived. Sets ``closed`` when the other side is gone or sends nonsense."""
        while not self.closed:
            try:
                chunk = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                self.closed = True
            self._buffer += chunk
        return self._frames()

    def close(self) -> None:
        self.closed = True
        self._socket.close()

    def _frames(self) -> list[bytes]:
        frames = []
        while len(self._buffer) >= _HEAD.size:
            (size,) = _HEAD.unpack_from(self._buffer)
            if size > MOST:
                self.closed = True
                self._buffer.clear()
                break
            end = _HEAD.size + size
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[_HEAD.size : end]))
            del self._buffer[:end]
        return frames


def pair() -> tuple[Link, Link]:
    """The guard's end and the loop's; after the fork each side closes the other's."""
    one, other = socket.socketpair()
    return Link(one), Link(other)
