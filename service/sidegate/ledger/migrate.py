"""Migrate: bring a ledger's database to this version. SQLite does it when it is opened; PostgreSQL when it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidegate.errors import ConfigError
from sidegate.ledger.database import PLACE, StoreError, Unusable, is_postgres
from sidegate.ledger.schema import STEPS, VERSION

if TYPE_CHECKING:
    from psycopg import Connection

_LOCK = 0x53474C31
"""Of the advisory lock under which a schema is changed: the ledger's mark, `SGL1`."""

_VERSIONS = "CREATE TABLE IF NOT EXISTS sidegate_schema (version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL)"
OLDEST = 140_000
"""The first PostgreSQL that knows statistics of expressions."""

PATIENCE_SECONDS = 3600.0
"""A step may rewrite a large table, and another `sidegate migrate` may be at it."""


def version_of(url: str) -> int:
    """The version of the schema as it stands; 0 where there is nothing. Changes nothing. Raises `ConfigError`."""
    if not is_postgres(url):
        from sidegate.ledger.sqlite_database import sqlite_path
        from sidegate.ledger.sqlite_file import version_of as version_of_file

        return version_of_file(sqlite_path(url))
    from sidegate.ledger.postgres import PostgresDatabase
    from sidegate.ledger.postgres_schema import version

    database = PostgresDatabase(url, 5.0, any_schema=True)
    try:
        with database.failing():
            return version(database.connected(), database.place)
    except StoreError as error:
        raise ConfigError(PLACE, str(error)) from error
    finally:
        database.close()


def migrate(url: str) -> int:
    """Apply what is missing, all or nothing, and give the version before. Others that do it at once wait for it."""
    if not is_postgres(url):
        from sidegate.ledger.opening import open_database

        before = version_of(url)
        open_database(url).close()
        return before
    from sidegate.ledger.postgres import PostgresDatabase

    database = PostgresDatabase(url, PATIENCE_SECONDS, any_schema=True)
    try:
        with database.failing(), database.connected().transaction():
            return _apply(database.connected(), database.place)
    except StoreError as error:
        raise ConfigError(PLACE, str(error)) from error
    finally:
        database.close()


def _apply(connection: Connection[tuple[Any, ...]], place: str) -> int:
    from sidegate.ledger.postgres_schema import version

    if connection.info.server_version < OLDEST:
        raise Unusable(f"{place} is PostgreSQL {connection.info.server_version // 10_000}: 14 or later is needed")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    before = version(connection, place)
    if before == VERSION:
        return before
    connection.execute(_VERSIONS)
    for number, step in enumerate(STEPS[before:], before + 1):
        for statement in step.postgresql:
            connection.execute(statement.encode())
        connection.execute("INSERT INTO sidegate_schema VALUES (%s, now())", (number,))
    return before
