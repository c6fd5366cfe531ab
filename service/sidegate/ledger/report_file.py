"""A ledger's file for a report: opened so that nothing can be written, where it stands."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sidegate.ledger.sqlite_file import APPLICATION_ID, BUSY_SECONDS


def open_report(path: Path) -> sqlite3.Connection:
    """A connection that can only read. Raises `sqlite3.Error` where there is no ledger, or another program's file."""
    connection = _connect(path, "mode=ro")
    try:
        found = _application(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        if not _needs_more_files(error) or path.with_name(f"{path.name}-wal").exists():
            raise
        # A folder in which nothing can be made, and nobody writes: the file is all there is.
        connection = _connect(path, "immutable=1")
        found = _application(connection)
    if found != APPLICATION_ID:
        connection.close()
        raise sqlite3.DatabaseError("it is a database of another program")
    return connection


def _needs_more_files(error: sqlite3.Error) -> bool:
    """Whether what fails is the making of the files beside the ledger's, which WAL wants for reading, too."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def _connect(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _application(connection: sqlite3.Connection) -> int:
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return int(connection.execute("PRAGMA application_id").fetchone()[0])
