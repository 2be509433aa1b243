"""A worker process for the Celery tests: its tasks append a line to a file, and some take as long as they are told."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

from fleet.adapters.celery_app import make_app, stopping


def main(settings: str) -> int:
    given = json.loads(Path(settings).read_text())
    record = Path(given["record"])
    logging.basicConfig(level=logging.WARNING)

    def note(text: str) -> None:
        with record.open("a") as file:
            file.write(text + "\n")

    def attempt(ticket: str, attempt: int, round_: int) -> None:
        note(f"begin {ticket} {attempt} {round_}")
        for name, seconds in given.get("slow", {}).items():
            if name == ticket:
                _work(seconds)
        note(f"end {ticket}")

    def _work(seconds: float) -> None:
        """Says when the worker was told to stop, where the test must know."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            if stopping() and given.get("says_so"):
                note("told to stop")
                time.sleep(seconds)

    def broken(ticket: str, attempt: int, round_: int) -> None:
        raise RuntimeError(ticket)

    app = make_app(
        given["url"],
        {"agents.attempt": attempt, "agents.broken": broken},
        name="agents",
        soft_timeout=given.get("soft_timeout", 5.0),
        on_revoke=lambda task_id: note(f"revoke {task_id}"),
    )
    drained = app.worker("agents", 2, name="w")
    note(f"drained {drained}")
    app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
