"""What ``fleet run`` prints while it waits, outside of a terminal: plain or JSON lines. The table is beside it."""

from __future__ import annotations

import sys
import termios
import tty

from fleet.cli.app import put_json, say
from fleet.cli.safe import safe
from fleet.cli.wording import sentence, why
from fleet.core.codec import encode
from fleet.core.errors import StoppedError
from fleet.core.events import Envelope
from fleet.core.view import TicketView


class Printer:
    """One line per event, on standard output; with ``as_json`` one object per line."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._first: float | None = None
        self._why = ""

    def __enter__(self) -> Printer:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def event(self, event: Envelope) -> None:
        if self._json:
            data = _plain(event.data)
            put_json(
                {
                    "type": "event",
                    "at": event.at,
                    "kind": event.kind,
                    "ticket": event.ticket,
                    "attempt": event.attempt,
                    "data": data,
                }
            )
            return
        line = sentence(event)
        if line:
            self._first = self._first if self._first is not None else event.at
            print(f"{event.at - self._first:7.1f}s  {safe(line)}", flush=True)

    def view(self, view: TicketView, admission: str) -> None:
        """Says once why the ticket waits."""
        if not self._json and admission and admission != self._why:
            self._why = admission
            print(f"          {safe(why(view, admission))}", flush=True)


def left_behind(stopped: StoppedError, ticket: str, as_json: bool) -> int:
    """Somebody stopped the fleet while this command followed a ticket; answers the exit code."""
    say(f"{stopped.message} {ticket} goes on with the next `fleet up` or `fleet run`.")
    if as_json:
        put_json({"type": "interrupted", "ticket": ticket})
    return stopped.exit_code


def keep_serving() -> None:
    """Holds the fleet in use until q (or Ctrl-C) is pressed, so that its pages stay up while somebody reads them."""
    print("serving the pages; press q to leave (the fleet then stops by itself when nobody needs it)", flush=True)
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        while sys.stdin.read(1) not in ("q", "Q", "\x04", ""):
            pass
    except KeyboardInterrupt:
        print()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _plain(data: object) -> object:
    import json  # noqa: PLC0415 - only the JSON printer needs it

    return json.loads(encode(data))
