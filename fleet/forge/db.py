"""One SQLite file: write-ahead log, synchronous=FULL, so that an answer is given only for what is on disk (I1).

Several processes may have it open; writers queue for each other (BEGIN IMMEDIATE).
"""

from __future__ import annotations

import os
import queue
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.core.errors import TemporaryError, UsageError
from fleet.forge.schema import SCHEMA, VERSION

Row = dict[str, Any]

_BUSY_SECONDS = 30.0
_POOLED = 16


def _as_dict(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


class Rows:
    """One open transaction, seen as rows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def one(self, sql: str, *args: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = self._connection.execute(sql, args).fetchone()
        return row

    def all(self, sql: str, *args: Any) -> list[Row]:
        return self._connection.execute(sql, args).fetchall()

    def run(self, sql: str, *args: Any) -> int:
        """Executes a write; returns the row id of an insert."""
        return self._connection.execute(sql, args).lastrowid or 0

    def count(self, sql: str, *args: Any) -> int:
        """How many rows the write touched."""
        return self._connection.execute(sql, args).rowcount


class Database:
    """The file and a few idle connections to it; usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue(_POOLED)
        fresh = not path.exists()
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(SCHEMA)
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(VERSION),))
            found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()["value"]
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        if fresh:
            os.chmod(path, 0o600)
        if int(found) != VERSION:
            self.close()
            raise UsageError(
                f"The forge in {path.parent} has format {found}, this fleet knows format {VERSION}.",
                "Use the fleet version that made it, or a new FLEET_HOME.",
            )

    def _connect(self) -> sqlite3.Connection:
        # autocommit (isolation_level None): transactions are opened by hand below, never implicitly.
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = _as_dict
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()

    @contextmanager
    def transaction(self, write: bool) -> Iterator[Rows]:
        """Commits at the end, rolls back on any exception. Reads see one snapshot."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield Rows(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled back already
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise TemporaryError(
                f"The forge cannot use its database: {error}.", "Check the free disk space."
            ) from error
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Closes the idle connections; the database stays usable."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return
