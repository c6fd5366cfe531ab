"""Asking a ledger's file for a report: read only, while a gateway writes to it and while none runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final

from sidegate.errors import Refusal, SidegateError
from sidegate.ledger.report import Report, run
from sidegate.ledger.report_query import Query
from sidegate.ledger.sqlite_file import APPLICATION_ID, BUSY_SECONDS

REPORT_SECONDS: Final = 10.0
"""The longest a running gateway's client waits for a report, its turn included."""

MAX_ASKED: Final = 8
"""Reports under way or waiting for their turn; one runs at a time. More are refused."""

_OPERATIONS = 250_000
"""SQLite's own, between two looks at whether to stop: some milliseconds."""


class Stopped(Exception):
    """The report was stopped before it was there."""


class Reporter:
    """Reports for a running gateway: a thread of its own, so that nobody who asks for one call waits for them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asked = 0
        self._closed = Event()
        self._thread = ThreadPoolExecutor(1, "ledger-report")

    async def report(self, query: Query) -> Report:
        """Raises a 503 where it takes too long, too many ask, or the file cannot be read."""
        if self._asked >= MAX_ASKED:
            raise Refusal(503, "usage_busy", "Too many usage reports are asked for at once.", retry_after=2)
        gone = Event()
        deadline = monotonic() + REPORT_SECONDS

        def over() -> bool:
            return gone.is_set() or self._closed.is_set() or monotonic() > deadline

        self._asked += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, report_from, self._path, query, over)
        except Stopped as error:
            message = f"The report takes longer than {REPORT_SECONDS:g} s: ask for less time, or in fewer parts."
            raise Refusal(503, "usage_too_slow", message) from error
        except sqlite3.Error as error:
            raise SidegateError("The ledger cannot be read.", status=503, code="ledger_unavailable") from error
        finally:
            gone.set()
            self._asked -= 1

    def stop(self) -> None:
        """What is under way is given up."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


def report_from(path: Path, query: Query, over: Callable[[], bool]) -> Report:
    """The report, unless `over` says meanwhile that it is no longer wanted: `Stopped`. Raises `sqlite3.Error`."""
    if over():
        raise Stopped
    with closing(open_report(path)) as connection:
        connection.set_progress_handler(over, _OPERATIONS)
        try:
            return run(connection, query)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise Stopped from error
            raise


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
