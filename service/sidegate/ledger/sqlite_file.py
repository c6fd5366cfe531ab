"""The SQLite file: opened, checked and brought to the present schema. A file that cannot be used is refused."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from sidegate.errors import ConfigError
from sidegate.ledger.database import PLACE as PLACE
from sidegate.ledger.schema import STEPS

APPLICATION_ID: Final = 0x53474C31
"""`SGL1` in the file's header: how a ledger is told from another program's database."""

BUSY_SECONDS = 5.0
MAX_CHECKED_BYTES = 256 * 2**20
"""Larger files are not checked page by page at the start: that reads the whole file."""

MIGRATIONS: Final = tuple(step.sqlite for step in STEPS)
"""One entry per schema version, the number of which is `PRAGMA user_version`."""


def open_file(path: Path) -> sqlite3.Connection:
    """The writer's connection. Makes the file, for its owner only, where there is none. Raises `ConfigError`."""
    try:
        _make(path)
        connection = _connect(path)
    except OSError as error:
        raise ConfigError(PLACE, f"{path} cannot be opened: {error.strerror}") from error
    try:
        _prepare(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ConfigError(PLACE, _said(error, path)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def version_of(path: Path) -> int:
    """The version of a file's schema; 0 where there is none yet. Makes and changes nothing. Raises `ConfigError`."""
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as file:
            return _checked(file, path)
    except sqlite3.DatabaseError as error:
        raise ConfigError(PLACE, _said(error, path)) from error


def open_memory() -> sqlite3.Connection:
    """An empty ledger that lives as long as its connection."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _migrate(connection)
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A second connection that only reads: in WAL mode it sees what is committed and waits for no writer."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite would give the file the mode of the umask; its -wal and -shm take the mode of the file. One that is there
    # is not touched: closing it would drop the locks of this process's other connections (POSIX), and another process
    # that goes would think itself the last, and take the -wal away.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _checked(connection, path)
    if path.stat().st_size <= MAX_CHECKED_BYTES and _first(connection, "PRAGMA quick_check(1)") != "ok":
        raise ConfigError(PLACE, f"{path} is damaged")
    _to_wal(connection)
    # NORMAL may lose the last commits when the power fails; in batches FULL costs a tenth.
    connection.execute("PRAGMA synchronous = FULL")
    _migrate(connection)


def _checked(connection: sqlite3.Connection, path: Path) -> int:
    """The file's version, where it is a ledger this Sidegate knows."""
    version, ours, empty = _identity(connection)
    if not ours and (version or not empty):
        raise ConfigError(PLACE, f"{path} is a database of another program")
    if version > len(MIGRATIONS):
        raise ConfigError(
            PLACE,
            f"{path} was written by a newer Sidegate: its schema is {version}, this one knows {len(MIGRATIONS)}",
        )
    return version


def _identity(connection: sqlite3.Connection) -> tuple[int, bool, bool]:
    """Schema version, whether the file is a ledger, and whether it is empty: as of one moment, for another gateway may
    be making it."""
    connection.execute("BEGIN")
    try:
        ours = _number(connection, "application_id") == APPLICATION_ID
        return _number(connection, "user_version"), ours, _empty(connection)
    finally:
        connection.execute("COMMIT")


def _to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for a lock here, as it does elsewhere; gateways that make the file together meet here."""
    until = monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error) or monotonic() > until:
                raise
            sleep(0.02)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have done it meanwhile.
        version = _number(connection, "user_version")
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _empty(connection: sqlite3.Connection) -> bool:
    return _first(connection, "SELECT count(*) FROM sqlite_schema") == 0


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(str(_first(connection, f"PRAGMA {pragma}")))


def _first(connection: sqlite3.Connection, statement: str) -> object:
    row: tuple[object, ...] = connection.execute(statement).fetchone()
    return row[0]


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another connection is at work: it passes by itself."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _said(error: sqlite3.DatabaseError, path: Path) -> str:
    if is_locked(error):
        return f"{path} is locked by another process"
    if isinstance(error, sqlite3.OperationalError):
        return f"{path} cannot be used: {error}"
    return f"{path} is damaged, or is no SQLite database"
