"""Opening: from a ledger's URL to the store of jobs in it."""

from __future__ import annotations

from sidegate.jobs.sql import SqlJobs
from sidegate.ledger.database import is_postgres
from sidegate.ledger.opening import database_of

PATIENCE_SECONDS = 4.0
"""The longest that one statement may take on PostgreSQL."""


def open_jobs(url: str) -> SqlJobs:
    """Where the gateway itself has the ledger open, so that it is there, checked and of this version."""
    if is_postgres(url):
        return SqlJobs(database_of(url, patience=PATIENCE_SECONDS), database_of(url, patience=PATIENCE_SECONDS))
    from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path
    from sidegate.ledger.sqlite_file import open_reader

    return SqlJobs(database_of(url), SqliteDatabase(sqlite_path(url), open_reader))
