"""Opening: from a ledger's URL to its database. A store's module and driver are imported where a URL names it."""

from __future__ import annotations

from sidegate.errors import ConfigError
from sidegate.ledger.database import PLACE, Database, StoreError, is_postgres


def database_of(url: str, *, patience: float = 5.0) -> Database:
    """The database a ledger's URL names, not opened yet. Raises `ConfigError` where it names none.

    `patience` is the longest, in seconds, that one statement on PostgreSQL may take; SQLite waits 5 s for a lock.
    """
    if is_postgres(url):
        from sidegate.ledger.postgres import PostgresDatabase

        return PostgresDatabase(url, patience)
    from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path

    return SqliteDatabase(sqlite_path(url))


def open_database(url: str, *, patience: float = 5.0) -> Database:
    """The same, opened. Raises `ConfigError` where the store is down or is no ledger of this version, too."""
    database = database_of(url, patience=patience)
    try:
        database.open()
    except StoreError as error:
        database.close()
        raise ConfigError(PLACE, str(error)) from error
    return database
