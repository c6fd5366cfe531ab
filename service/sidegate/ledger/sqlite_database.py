"""SQLite as a `Database`: the file at a path, opened and brought to the present schema when it is first used."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sidegate.errors import ConfigError
from sidegate.ledger.database import (
    PLACE,
    Conflict,
    Cursor,
    Dialect,
    Interrupted,
    Locked,
    Parameters,
    Row,
    StoreError,
    Unavailable,
    Unfit,
    Unusable,
)
from sidegate.ledger.sqlite_file import is_locked, open_file

_OPERATIONS = 250_000
"""SQLite's own, between two looks at whether to stop: some milliseconds."""

_UNFIT = (sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError, ValueError)

FAILURES = (sqlite3.Error, OverflowError, ValueError)
"""All that the driver raises."""


class SqliteDatabase:
    """The file at `path`, or what `connect` opens."""

    dialect: Dialect = "sqlite"
    for_update = ""

    def __init__(self, path: Path, connect: Callable[[Path], sqlite3.Connection] = open_file) -> None:
        self._path = path
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._over: Callable[[], bool] | None = None

    def connected(self) -> sqlite3.Connection:
        """The driver's own, opened: for what is written for SQLite only."""
        if self._connection is None:
            try:
                self._connection = self._connect(self._path)
            except ConfigError as error:
                raise Unusable(error.problem) from error
            except sqlite3.Error as error:
                raise translated(error) from error
            self.watch(self._over)
        return self._connection

    def open(self) -> None:
        self.connected()

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        try:
            return _Cursor(self.connected().execute(sql, parameters))
        except FAILURES as error:
            raise translated(error) from error

    def executemany(self, sql: str, rows: Sequence[Parameters]) -> Cursor:
        try:
            return _Cursor(self.connected().executemany(sql, rows))
        except FAILURES as error:
            raise translated(error) from error

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[None]:
        self.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self.connected().in_transaction:
                self.execute("ROLLBACK")
            raise

    def watch(self, over: Callable[[], bool] | None) -> None:
        self._over = over
        if self._connection is not None:
            self._connection.set_progress_handler(over, _OPERATIONS)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Cursor:
    """SQLite finds rows while they are read, so that reading may fail as well."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def fetchone(self) -> Row | None:
        try:
            row: Row | None = self._cursor.fetchone()
        except FAILURES as error:
            raise translated(error) from error
        return row

    def fetchall(self) -> list[Row]:
        try:
            return self._cursor.fetchall()
        except FAILURES as error:
            raise translated(error) from error


def translated(error: Exception) -> StoreError:
    """What SQLite means, in the words of all stores."""
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(str(error))
    if isinstance(error, _UNFIT):
        return Unfit(str(error))
    if isinstance(error, sqlite3.Error) and is_locked(error):
        return Locked(str(error))
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
        return Interrupted(str(error))
    return Unavailable(str(error))


def sqlite_path(url: str) -> Path:
    """The file a ledger's URL means: `sqlite:///relative.db`, `sqlite:////absolute.db`. Raises `ConfigError`."""
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or path in ("", ":memory:") or "?" in path or "\0" in path:
        expected = "sqlite:///path/to/file.db, postgresql://host/database, or empty for no ledger"
        raise ConfigError(PLACE, f"must be {expected}")
    return Path(path)
