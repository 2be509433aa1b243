"""Sends webhooks from one background thread: each once, never repeated by itself, as on GitHub."""

from __future__ import annotations

import http.client
import threading
from urllib.parse import quote_plus, urlsplit

from fleet.core.errors import TemporaryError
from fleet.forge.db import Row
from fleet.forge.hooks import loopback, signature
from fleet.forge.store import ForgeStore

_SECONDS = 10.0
_LOOK_EVERY = 2.0
_KEEP = 2000


class Deliverer:
    """The thread. ``wake`` after a commit; entries of other processes are found within two seconds."""

    def __init__(self, store: ForgeStore) -> None:
        self._store = store
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="forge-webhooks", daemon=True)

    def start(self) -> None:
        """A delivery that an earlier server was about to make is closed as failed: it may have arrived."""
        with self._store.write() as tx:
            tx.rows.run("UPDATE deliveries SET phase = 'over', status = 'interrupted' WHERE phase = 'sending'")
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Ends the thread; what is still waiting is sent by the next server."""
        self._stop.set()
        self._wake.set()
        self._thread.join(_SECONDS + 1)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and (row := self._take()) is not None:
                    self._send(row)
            except TemporaryError:
                pass  # a full disk or a busy database: the entries stay waiting and are looked at again
            self._wake.wait(_LOOK_EVERY)
            self._wake.clear()

    def _take(self) -> Row | None:
        with self._store.read() as tx:
            if tx.rows.one("SELECT 1 FROM deliveries WHERE phase = 'waiting' LIMIT 1") is None:
                return None
        with self._store.write() as tx:
            row = tx.rows.one(
                "SELECT d.id, d.guid, d.event, d.body, h.url, h.secret, h.content_type, h.id AS hook_id"
                " FROM deliveries d JOIN hooks h ON h.id = d.hook_id WHERE d.phase = 'waiting' ORDER BY d.id LIMIT 1"
            )
            if row is not None:
                tx.rows.run("UPDATE deliveries SET phase = 'sending', delivered_at = ? WHERE id = ?", tx.now, row["id"])
        return row

    def _send(self, row: Row) -> None:
        begun = self._store.clock.monotonic()
        code, status, said = post(row)
        seconds = round(self._store.clock.monotonic() - begun, 3)
        with self._store.write() as tx:
            tx.rows.run(
                "UPDATE deliveries SET phase = 'over', status = ?, status_code = ?, response = ?, duration = ?"
                " WHERE id = ?",
                status, code, said, seconds, row["id"],
            )  # fmt: skip
            tx.rows.run("DELETE FROM deliveries WHERE phase = 'over' AND id <= ?", row["id"] - _KEEP)


def post(row: Row) -> tuple[int, str, str]:
    """One attempt to deliver: (status code or 0, status, what was answered)."""
    if not loopback(row["url"]):
        return 0, "refused: not on this machine", ""
    body: bytes = row["body"]
    kind = "application/json"
    if row["content_type"] == "form":
        body, kind = b"payload=" + quote_plus(body).encode(), "application/x-www-form-urlencoded"
    headers = {
        "Content-Type": kind,
        "User-Agent": "GitHub-Hookshot/forge",
        "X-GitHub-Event": row["event"],
        "X-GitHub-Delivery": row["guid"],
        "X-GitHub-Hook-ID": str(row["hook_id"]),
    }
    if row["secret"]:
        headers["X-Hub-Signature-256"] = signature(row["secret"], body)
    parts = urlsplit(row["url"])
    # The name is never looked up: "localhost" is an address here, so that no resolver can point elsewhere.
    host = "127.0.0.1" if parts.hostname == "localhost" else str(parts.hostname)
    connection = http.client.HTTPConnection(host, parts.port or 80, timeout=_SECONDS)
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        response = connection.getresponse()
        said = response.read(4096).decode("utf-8", "replace")
        return response.status, "OK" if response.status < 300 else response.reason, said
    except (OSError, http.client.HTTPException) as error:
        return 0, f"failed to connect: {error.__class__.__name__}", ""
    finally:
        connection.close()
