"""An AttemptChannel on plain files: the guard's tests need the port's laws, not Redis.

``away``: while this file exists, the channel answers nothing, like a store that is down.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

from fleet.core.codec import decode, decode_event, encode, encode_event
from fleet.core.commands import Command
from fleet.core.errors import TemporaryError
from fleet.core.events import Envelope, Source
from fleet.core.view import TicketView


class FileChannel:
    """Implements ``fleet.core.ports.AttemptChannel``; the other methods are the test's own side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.away = folder / "away"
        self._inbound = folder / "inbound"
        self._tell = folder / "tell"

    # --- the port ---------------------------------------------------------------------------------------------
    def claim(self, ticket: str, attempt: int, owner: str) -> bool:
        self._here()
        path = self.folder / f"claim.{ticket}.{attempt}"
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return path.read_text() == owner
        os.write(fd, owner.encode())
        os.close(fd)
        return True

    def send(self, events: Sequence[Envelope]) -> None:
        self._here()
        with self._inbound.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"".join(encode_event(event) + b"\n" for event in events))

    def commands(self, ticket: str, attempt: int, after: str, block_ms: int) -> Sequence[tuple[str, bytes]]:
        until = time.monotonic() + min(block_ms, 200) / 1000
        while True:
            self._here()
            lines = self._tell.read_bytes().splitlines() if self._tell.exists() else []
            start = int(after or "0")
            if lines[start:] or time.monotonic() > until:
                return [(str(number), line) for number, line in enumerate(lines[start:], start=start + 1)]
            time.sleep(0.02)

    def view(self, ticket: str) -> TicketView | None:
        self._here()
        path = self.folder / f"view.{ticket}"
        return decode(path.read_bytes(), TicketView) if path.exists() else None

    def _here(self) -> None:
        if self.away.exists():
            raise TemporaryError("The store is away.")

    # --- the test's side --------------------------------------------------------------------------------------
    def put(self, view: TicketView) -> None:
        fresh = self.folder / "view.new"
        fresh.write_bytes(encode(view))
        fresh.replace(self.folder / f"view.{view.id}")

    def tell(self, command: Command) -> None:
        with self._tell.open("ab") as file:
            file.write(encode(command) + b"\n")

    def events(self) -> list[Envelope]:
        raw = self._inbound.read_bytes() if self._inbound.exists() else b""
        return [decode_event(line, Source.ATTEMPTS) for line in raw.split(b"\n")[:-1]]

    def said(self) -> list[Envelope]:
        """The numbered events, each once, in order."""
        found = {event.seq: event for event in self.events() if event.seq}
        return [found[seq] for seq in sorted(found)]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.said()]

    def claimed(self) -> bool:
        return any(self.folder.glob("claim.*"))
